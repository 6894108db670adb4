"""Minimal vectors over many behaviours, each beside its controls."""
