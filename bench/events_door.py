"""How many events a second a real installation takes in at its door, durably.

    python bench/events_door.py [--seconds 5] [--connections 64] [--workers 1]

Prints one JSON line; rates are events a second, times milliseconds. `farthing up` with its embedded PostgreSQL; so many connections each
post one event at a time (structured CloudEvents), then batches of 10 and of 100, and wait for the answer, which comes when the events are
stored. `stored` counts them in the database afterwards: it must equal what was answered for. The clients run on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg

from farthing.testing.installation import Installation

SETTINGS = {
    "local": {"enabled": False},
    "cache": {"semantic": {"enabled": False}},
    "providers": {"up": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}},
    "models": {"fast": {"provider": "up", "upstream_model": "fast"}},
}


def event(number: int) -> dict[str, Any]:
    """Something that a user did on a page."""
    data = {"page": "/pricing", "ms": 1234, "title": "What it costs", "session": "0b6f9a1c"}
    user = f"u{number % 500}"
    return {"specversion": "1.0", "id": uuid4().hex, "source": "/shop", "type": "page.viewed", "subject": user, "user": user, "data": data}


class Client:
    """One connection that is kept."""

    def __init__(self, house: Installation, batch: int) -> None:
        self._house = house
        self._batch = batch
        kind = "application/cloudevents+json" if batch == 1 else "application/cloudevents-batch+json"
        self._head = f"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {house.key}\r\ncontent-type: {kind}\r\n"
        self.times: list[float] = []

    async def run(self, until: float, number: int) -> None:
        """Post, one request after the other."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._house.port)
        while (began := time.perf_counter()) < until:
            some = [event(number + at) for at in range(self._batch)]
            body = json.dumps(some[0] if self._batch == 1 else some).encode()
            writer.write(f"{self._head}content-length: {len(body)}\r\n\r\n".encode() + body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            said = await reader.readexactly(length)
            assert head.startswith(b"HTTP/1.1 202"), said
            self.times.append(time.perf_counter() - began)
        writer.close()


async def load(house: Installation, batch: int, given: argparse.Namespace) -> dict[str, Any]:
    """Rate, and how long a request takes."""
    clients = [Client(house, batch) for _ in range(given.connections)]
    before = stored(house)
    began = time.perf_counter()
    await asyncio.gather(*(client.run(began + given.seconds, 97 * at) for at, client in enumerate(clients)))
    took = time.perf_counter() - began
    times = sorted(one for client in clients for one in client.times)
    assert stored(house) - before == len(times) * batch
    p50, p99 = statistics.median(times), times[int(len(times) * 0.99)]
    return {"per_s": round(len(times) * batch / took), "p50_ms": round(p50 * 1e3, 1), "p99_ms": round(p99 * 1e3, 1)}


def stored(house: Installation) -> int:
    """Events in the database."""
    with psycopg.connect(house.database_url) as connection:
        connection.execute("SET ROLE farthing_service")
        row = connection.execute("SELECT count(*) FROM farthing.events").fetchone()
    assert row is not None
    return int(row[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="farthing-bench-", dir="/tmp") as folder,
        Installation(Path(folder), SETTINGS, workers=given.workers, background=1) as house,
    ):
        found = {str(batch): asyncio.run(load(house, batch, given)) for batch in (1, 10, 100)}
    about = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "connections": given.connections, "workers": given.workers}
    print(json.dumps({"bench": "events_door", **about, "stored": found, "reached": found["1"]["per_s"] >= 3000}))


if __name__ == "__main__":
    main()
