"""Durable runs of items that may be done more than once. See docs/jobs.md."""
