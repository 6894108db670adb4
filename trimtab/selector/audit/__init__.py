"""Audits: what attributions are worth against measured effects, and what they find in the data."""
