"""What makes a pair useful."""
