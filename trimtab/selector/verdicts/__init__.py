"""What the effect owes to each pair, feature and cell of a store, and what that says of it."""
