"""Which samples and which features matter: rank, prune, search, prove, and account for every part."""
