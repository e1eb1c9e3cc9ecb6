"""What is remembered of users: facts read from events, and turns of conversations. See docs/memory.md."""
