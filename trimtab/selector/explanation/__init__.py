"""Explain a vector that someone already has: what it is made of, what it does and breaks."""
