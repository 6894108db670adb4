"""The folder of an exported vector: written, described, verified."""
