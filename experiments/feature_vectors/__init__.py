"""Feature vectors against dense vectors."""
