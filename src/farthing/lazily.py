"""Libraries that are loaded by their first use: who keeps no vectors does without the 20 MB and the 80 ms of numpy."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Lazily:
    """Stands for a module. What was asked for once is kept, so that later it is found as fast as in the module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self._name), name)
        self.__dict__[name] = value
        return value
