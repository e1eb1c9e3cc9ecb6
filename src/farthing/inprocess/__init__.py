"""Adapters that live in this process and die with it: for tests, and for the smallest set-up, without a database."""
