"""Durable runs of idempotent items. See docs/jobs.md."""
