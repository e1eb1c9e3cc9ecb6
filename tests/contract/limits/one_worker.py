"""What a worker does with the limits, in a process of its own: `one_worker.py FOLDER KEY LIMITS SECONDS HOLD_S`.

It asks as fast as it can, holds each place for HOLD_S, and writes a line for each request that passed: when it asked, came in and left
(CLOCK_MONOTONIC). At its end, a line that says how many passed uncounted. SECONDS is negative: it takes one place and keeps it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import msgspec

from farthing.errors import RateLimited
from farthing.spend.limit_table import LimitTable
from farthing.spend.limits import KeyLimits
from farthing.types import Limits


def main() -> None:
    """Ask until the time is up."""
    folder, key, text, seconds, hold_s = sys.argv[1:]
    limits = msgspec.json.decode(text, type=Limits)
    worker = KeyLimits(LimitTable(Path(folder), rows=64, columns=16), max_wait_s=10)
    name = bytes.fromhex(key)
    say("ready")
    sys.stdin.readline()
    until = time.monotonic() + abs(float(seconds))
    while time.monotonic() < until:
        passed, asked = False, time.monotonic()
        with contextlib.suppress(RateLimited):
            passed = worker.enter(name, limits, asked, behind=False)
        if passed:
            came = time.monotonic()
            if float(seconds) < 0:
                say("holding")
                time.sleep(60)
            if float(hold_s):
                time.sleep(float(hold_s))
            left = time.monotonic()
            if limits.concurrency is not None:
                worker.leave(name)
            say(f"{asked:.9f} {came:.9f} {left:.9f}")
    worker.close()
    say(f"uncounted {worker.uncounted}")


def say(text: str) -> None:
    """In one write, so that a kill leaves no half line."""
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    main()
