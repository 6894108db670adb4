"""What people ask of a store: SQL in a sandbox, matrices, features by token, sizes."""
