"""What sequences share by index, and concepts by class and kinship."""
