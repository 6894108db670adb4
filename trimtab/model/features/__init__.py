"""What is known of an SAE's features in words: tokens, contexts, labels. No number rests on it."""
