"""Finding the features that matter."""
