"""Answers ready before the click. See docs/foresight.md."""
