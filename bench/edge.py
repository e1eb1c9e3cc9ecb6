"""What a click costs: GET /edge/{action} at a steady rate through a real installation, beside GET /healthz at the same rate.

    .venv/bin/python bench/edge.py [--rate 2000] [--seconds 5] [--rounds 3] [--workers 2] [--users 200] [--connections 64]

The load is open: requests are sent when they are due, whatever has become of those before, over kept connections; one that finds no
connection free waits, and its latency counts from when it was due. Users are asked for in turn, so that no two clicks in a row are for
the same answer. Rounds of both doors alternate. A human table goes to stderr, one JSON line to stdout. Exit status 1 when an answer was
not a 200 from the edge.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import shutil
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import cast

import msgspec

from farthing.testing.installation import Installation
from farthing.testing.upstream import serve_in_thread

_OK = b"HTTP/1.1 200"
_AT_THE_EDGE = b"x-farthing-source: edge"


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """What one round saw. Times in milliseconds."""

    rps: float
    p50_ms: float
    p99_ms: float
    bad: int


class Connection(asyncio.Protocol):
    """One kept connection: a request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, due: float) -> None:
        self._due, self._received = due, b""
        assert self._transport is not None
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if found and len(body) >= _length(head):
            self._load.answered(self, time.perf_counter() - self._due, head)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._load.lost += 1

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


class Load:
    """Sends requests at a rate. `needed` is what each answer's head must hold."""

    def __init__(self, requests: list[bytes], needed: bytes) -> None:
        self._requests = requests
        self._needed = needed
        self._idle: list[Connection] = []
        self._waiting: deque[tuple[bytes, float]] = deque()
        self._latencies: list[float] = []
        self._bad = 0
        self.lost = 0

    async def run(self, port: int, *, rate: float, seconds: float, connections: int) -> Round:
        loop = asyncio.get_running_loop()
        opened = [(await loop.create_connection(lambda: Connection(self), "127.0.0.1", port))[1] for _ in range(connections)]
        self._idle = list(opened)
        began, sent, most = time.perf_counter(), 0, int(rate * seconds)
        while sent < most:
            now = time.perf_counter()
            while sent < most and began + sent / rate <= now:
                self._send(self._requests[sent % len(self._requests)], now)
                sent += 1
            await asyncio.sleep(0.0005)
        late = time.perf_counter() + 5
        while len(self._latencies) < sent and time.perf_counter() < late:  # noqa: ASYNC110 - it has a deadline
            await asyncio.sleep(0.005)
        took = time.perf_counter() - began
        missing, lost = sent - len(self._latencies), self.lost
        for one in opened:
            one.close()
        await asyncio.sleep(0.05)
        found = sorted(self._latencies)
        return Round(
            rps=len(found) / took,
            p50_ms=1e3 * found[len(found) // 2],
            p99_ms=1e3 * found[len(found) * 99 // 100],
            bad=self._bad + missing + lost,
        )

    def _send(self, request: bytes, due: float) -> None:
        if self._idle:
            self._idle.pop().ask(request, due)
        else:
            self._waiting.append((request, due))

    def answered(self, connection: Connection, took: float, head: bytes) -> None:
        self._latencies.append(took)
        self._bad += not (head.startswith(_OK) and self._needed in head)
        if self._waiting:
            connection.ask(*self._waiting.popleft())
        else:
            self._idle.append(connection)


def _length(head: bytes) -> int:
    at = head.lower().find(b"content-length: ")
    return int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


def main() -> int:
    given = _arguments()
    work = Path(tempfile.mkdtemp(prefix="farthing-bench-", dir=given.work))
    work.chmod(0o755)  # the embedded database runs as a user of its own
    try:
        with serve_in_thread() as upstream:
            settings = _settings(upstream.base_url)
            with Installation(work / "edge", settings, workers=given.workers) as farthing:
                users = [f"user-{number}" for number in range(given.users)]
                _prepare(farthing, users)
                clicks = [_request("/edge/briefing?user=" + user, farthing.key) for user in users]
                results = _measure(given, farthing.port, clicks, [_request("/healthz", None)])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    edge, healthz = (_middle(results[door]) for door in ("edge", "healthz"))
    bad = sum(one.bad for rounds in results.values() for one in rounds)
    ratios = {"p50_to_healthz": round(edge.p50_ms / healthz.p50_ms, 2), "p99_to_healthz": round(edge.p99_ms / healthz.p99_ms, 2)}
    found = {"rate": given.rate, "workers": given.workers, "edge": msgspec.structs.asdict(edge), "healthz": msgspec.structs.asdict(healthz)}
    print(json.dumps({**found, **ratios, "bad": bad}))
    return 1 if bad else 0


def _measure(given: argparse.Namespace, port: int, clicks: list[bytes], alive: list[bytes]) -> dict[str, list[Round]]:
    results: dict[str, list[Round]] = {"healthz": [], "edge": []}
    doors = {"healthz": (alive, b""), "edge": (clicks, _AT_THE_EDGE)}
    print(f"{'door':<10}{'req/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'bad':>8}", file=sys.stderr)
    for number in range(-1, given.rounds):  # the first one warms up
        for door, (requests, needed) in doors.items():
            seconds = given.seconds if number >= 0 else 1
            found = asyncio.run(Load(requests, needed).run(port, rate=given.rate, seconds=seconds, connections=given.connections))
            if number >= 0:
                results[door].append(found)
                print(f"{door:<10}{found.rps:>10.0f}{found.p50_ms:>10.2f}{found.p99_ms:>10.2f}{found.bad:>8}", file=sys.stderr)
    return results


def _middle(rounds: list[Round]) -> Round:
    """The round in the middle, by its 99th percentile."""
    return sorted(rounds, key=lambda one: one.p99_ms)[len(rounds) // 2]


def _prepare(farthing: Installation, users: list[str]) -> None:
    """Have each answer made once."""
    connection = http.client.HTTPConnection("127.0.0.1", farthing.port, timeout=30)
    deadline = time.monotonic() + 60
    for user in users:
        source = ""
        while source != "edge":
            connection.request("GET", f"/edge/briefing?user={user}", headers={"authorization": f"Bearer {farthing.key}"})
            response = connection.getresponse()
            response.read()
            source = response.headers["x-farthing-source"] or ""
            if time.monotonic() > deadline:
                raise RuntimeError(f"the answers were not there in time: {response.status}")
    connection.close()


def _request(path: str, key: str | None) -> bytes:
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{authorization}\r\n".encode()


def _settings(base_url: str) -> dict[str, object]:
    action = {
        "after": ["user.login"],
        "model": "fast",
        "user": "Write a briefing for {user}. " + "It has three paragraphs on what happened since yesterday. " * 12,
        "depends_on": ["deployments", "inbox"],
    }
    return {
        "local": {"enabled": False},
        "cache": {"semantic": {"enabled": False}},
        "providers": {"up": {"kind": "openai_compatible", "base_url": base_url, "api_key": "sk-upstream"}},
        "models": {"fast": {"provider": "up", "upstream_model": "fast", "price": {"input_usd_per_1m": 1, "output_usd_per_1m": 2}}},
        "foresight": {
            "states": {"deployments": {"types": ["deployment.*"]}, "inbox": {"types": ["mail.*"], "per": "user"}},
            "actions": {"briefing": action},
        },
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--work", type=Path, default=Path("/tmp"))  # noqa: S108 - a fresh folder in it
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
