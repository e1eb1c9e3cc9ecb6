"""Packs that speak to models."""
