"""The event bus: what happened, told to whom it may concern. See docs/events.md."""
