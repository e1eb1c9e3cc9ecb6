"""How many events a second come in at POST /v1/events, durably.

    python bench/event_door.py [--seconds 5] [--callers 16] [--workers 2]

Prints one JSON line. A gateway of its own with the embedded PostgreSQL as it is set for everybody; so many callers, each on a connection of
its own, post batches of 1, 10, 100 and 1000 one after the other (ids are new, so each is stored). `events_s` is events a second; times are
milliseconds from the request to the answer, which comes when the events are durable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from farthing.testing.installation import Installation

_SIZES = (1, 10, 100, 1000)
_IN_A_ROW = 16
_PAUSE_S = 0.1
_SETTINGS: dict[str, Any] = {"local": {"enabled": False}, "cache": {"semantic": {"enabled": False}}}


async def main() -> None:
    """Measure and print."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        house = Installation(Path(folder) / "house", _SETTINGS, workers=asked.workers)
        house.start()
        try:
            await _warm(house)
            found = {str(size): await _posted(house, size, asked.callers, asked.seconds) for size in _SIZES}
        finally:
            house.stop()
    print(json.dumps({"workers": asked.workers, "callers": asked.callers, "by_batch": found}))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


async def _warm(house: Installation) -> None:
    """Wait until all workers take events."""
    good = 0
    while good < _IN_A_ROW:
        try:
            await _caller(house, 1, time.monotonic() + 0.01)
            good += 1
        except RuntimeError:
            good = 0
            await asyncio.sleep(0.1)


async def _posted(house: Installation, size: int, callers: int, seconds: float) -> dict[str, float]:
    until = time.monotonic() + seconds
    began = time.monotonic()
    took = [one for some in await asyncio.gather(*(_caller(house, size, until) for _ in range(callers))) for one in some]
    span = time.monotonic() - began
    took.sort()
    return {
        "events_s": round(len(took) * size / span),
        "p50_ms": round(statistics.median(took), 1),
        "p99_ms": round(took[int(len(took) * 0.99)], 1),
    }


async def _caller(house: Installation, size: int, until: float) -> list[float]:
    """Post until then. How long each answer took, in milliseconds."""
    host, port = house.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    took: list[float] = []
    try:
        while time.monotonic() < until:
            request = _request(house.key, size)
            began = time.perf_counter()
            writer.write(request)
            if await _answer(reader, size):
                took.append((time.perf_counter() - began) * 1e3)
            else:
                await asyncio.sleep(_PAUSE_S)
    finally:
        writer.close()
    return took


def _request(key: str, size: int) -> bytes:
    name = uuid4().hex
    events = [_event(f"{name}-{number}", number) for number in range(size)]
    body = msgspec.json.encode(events)
    head = (
        "POST /v1/events HTTP/1.1\r\nhost: bench\r\ncontent-type: application/cloudevents-batch+json\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _event(name: str, number: int) -> dict[str, Any]:
    data = {"page": "/orders", "duration_ms": 120, "referrer": "https://example.com/start"}
    return {"specversion": "1.0", "id": name, "source": "bench", "type": "page.viewed", "user": f"u{number % 997}", "data": data}


async def _answer(reader: asyncio.StreamReader, size: int) -> bool:
    """Whether the events were taken; not when more are under way than the worker may hold."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    body = await reader.readexactly(length)
    if b"wait to be stored" in body:
        return False
    if not head.startswith(b"HTTP/1.1 202") or msgspec.json.decode(body)["accepted"] != size:
        raise RuntimeError(f"{head.decode()}{body.decode()[:500]}")
    return True


if __name__ == "__main__":
    asyncio.run(main())
