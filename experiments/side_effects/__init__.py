"""What vectors and clamps break."""
