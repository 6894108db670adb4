"""Ratios of two things measured in one run, on the same work, with the same numbers out."""
