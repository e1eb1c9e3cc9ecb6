"""Metrics, spans, and where they go. What is counted, and under which names, is in `instruments`."""
