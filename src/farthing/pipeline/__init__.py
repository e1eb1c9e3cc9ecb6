"""How stages and streams are put together."""
