"""Pictures of the space, each with a number beside it."""
