"""Naming features."""
