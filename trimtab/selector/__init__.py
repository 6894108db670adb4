"""Which samples and features matter: rank, prune, search, prove, account for every part."""
