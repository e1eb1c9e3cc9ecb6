"""Redis and Valkey: the index of the semantic cache."""
