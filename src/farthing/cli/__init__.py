"""The `farthing` command."""
