"""Retention: prompts and answers of tenants that want them kept."""
