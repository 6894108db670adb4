"""Which features, or directions, hold one attribute of an entity and no other."""
