"""From planned samples to shards on the disk, by one process or many."""
