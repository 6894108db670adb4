"""Clamping features on reasoning and truthfulness: how strongly, how many, which way."""
