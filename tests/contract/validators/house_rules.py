"""Validators as operators write them, good ones and bad ones. Loaded by the processes of the tests."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Any

_hoard: list[bytearray] = []


def polite(answer: str, request: dict[str, Any]) -> bool:
    """Whether it says please, unless the caller wants it rude."""
    return "please" in answer or request.get("user") == "rude"


def reasoned(answer: str, _request: dict[str, Any]) -> str | None:
    return None if answer.endswith(".") else "no full stop\nat the end"


async def slow_service(answer: str, _request: dict[str, Any]) -> bool:
    await asyncio.sleep(0.2)
    return answer != "bad"


class Strict:
    async def __call__(self, answer: str, _request: dict[str, Any]) -> bool:
        return bool(answer)


strict = Strict()


def _raise() -> None:
    raise RuntimeError


def _hang() -> None:
    while True:
        pass


def _hoard_memory() -> None:
    while True:
        _hoard.append(bytearray(32 * 2**20))


def _print() -> None:
    print("x" * 100_000)  # noqa: T201 - what a careless validator does
    sys.stdout.flush()


_MISDEEDS: dict[str, Callable[[], Any]] = {
    "raise": _raise,
    "leave": lambda: sys.exit(3),
    "crash": lambda: os._exit(3),
    "hang": _hang,
    "sleep": lambda: time.sleep(600),
    "hoard": _hoard_memory,
    "print": _print,
    "close": lambda: os.closerange(3, 64),
    "number": lambda: 1,
    "zero": lambda: 0,
    "list": list,
    "empty": str,
    "bytes": lambda: b"no",
    "secrets": lambda: ",".join(sorted(name for name in os.environ if name.startswith("FARTHING_"))) or None,
    "long": lambda: "word " * 100_000,
    "surrogate": lambda: "\ud800",
    "fine": lambda: True,
}


def on_demand(answer: str, _request: dict[str, Any]) -> Any:
    """Does what the answer says."""
    return _MISDEEDS[answer]()


not_a_function = 5
