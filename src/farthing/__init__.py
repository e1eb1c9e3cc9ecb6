"""Farthing: the AI backend that spends like a startup.

Importing this package opens nothing, reads no environment and loads no engine. Start from `farthing.app` (the composition root)
or `farthing.flow` (the map of a request).
"""

__version__ = "0.1.0"
