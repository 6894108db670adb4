"""Explore what the parts can do: methods, their points of one surface, and the one to take."""
