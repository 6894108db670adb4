"""Analogous features across behaviours."""
