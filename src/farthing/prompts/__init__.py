"""System texts that callers name instead of sending them."""
