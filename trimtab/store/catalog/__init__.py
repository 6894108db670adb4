"""The catalog: an index of a store's shards, in one DuckDB file."""
