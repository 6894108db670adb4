"""The proof: a vector and its controls on held-out pairs and questions, and who judged."""
