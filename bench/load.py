"""Load and probes: `wrk` for throughput and latency, a bare blocking socket for correctness and time to first chunk."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from farthing.testing.instant import TEXT
from gateways import Target

LUA = Path(__file__).with_name("wrk.lua")
QUESTION = "In one sentence, what was a farthing? Reference "
SYSTEM = "You are a helpful assistant who answers briefly and in plain words, and says so when something is not known."


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of wrk saw. Times in microseconds; `not_2xx` and `broken` must be 0 for the figures to count.

    `upstream` is how many requests reached the upstream meanwhile.
    """

    requests: int
    duration_us: int
    bytes: int
    p50_us: int
    p99_us: int
    not_2xx: int
    broken: int
    upstream: int = 0

    @property
    def rps(self) -> float:
        return self.requests / self.duration_us * 1e6


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One request answered over a bare socket. `first_us` is the time to the first `data:`, or to the end where there is none."""

    status: int
    headers: dict[str, str]
    body: bytes
    size: int
    first_us: float


def body_around(target: Target, *, stream: bool) -> tuple[str, str]:
    """The request body before and after the text that makes it unique."""
    document = {
        "model": target.model,
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION + "@"}],
        "temperature": 0,
        "max_tokens": 64,
        **({"stream": True, "stream_options": {"include_usage": True}} if stream else {}),
    }
    head, tail = msgspec.json.encode(document).decode().split("@")
    return head, tail


def run_wrk(target: Target, *, stream: bool, connections: int, seconds: float, seed: str) -> Load:
    """Closed-loop load on one target. `seed` begins the unique texts, or is the text where the target repeats."""
    head, tail = body_around(target, stream=stream)
    env = {"BENCH_HEAD": head, "BENCH_TAIL": tail, "BENCH_SEED": seed, "BENCH_UNIQUE": "0" if target.repeat else "1"}
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(LUA)]
    for name, value in target.headers.items():
        argv += ["-H", f"{name}: {value}"]
    done = subprocess.run([*argv, target.url], env={**os.environ, **env}, capture_output=True, text=True, timeout=seconds + 60, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    return msgspec.json.decode(line.removeprefix("RESULT "), type=Load)


def answered(upstream: Target) -> int:
    """How many requests the instant upstream has answered."""
    with closing(http.client.HTTPConnection(urlsplit(upstream.url).netloc, timeout=10)) as connection:
        connection.request("GET", "/answered")
        count: int = msgspec.json.decode(connection.getresponse().read())["answered"]
        return count


class Probe:
    """One keep-alive connection to a target."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._parts = urlsplit(target.url)

    def __enter__(self) -> Self:
        self._socket = socket.create_connection((self._parts.hostname, self._parts.port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, text: str | None = None, *, stream: bool) -> Exchange:
        """Send one request (a new text unless one is given) and read the whole answer."""
        head, tail = body_around(self.target, stream=stream)
        body = f"{head}{text or uuid4().hex}{tail}".encode()
        headers = {"host": self._parts.netloc, "content-type": "application/json", "content-length": str(len(body)), **self.target.headers}
        lines = [f"POST {self._parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        started = time.perf_counter()
        self._socket.sendall("\r\n".join(lines).encode() + body)
        return self._read(started)

    def _read(self, started: float) -> Exchange:
        raw, first, end = bytearray(), None, -1
        status = 0
        headers: dict[str, str] = {}
        while True:
            if not (data := self._socket.recv(262_144)):
                raise ConnectionResetError("the server closed in the middle of an answer")
            raw += data
            if end < 0 and (end := raw.find(b"\r\n\r\n")) >= 0:
                status, headers = _head(bytes(raw[:end]))
            if end < 0:
                continue
            if first is None and raw.find(b"data:", end) >= 0:
                first = time.perf_counter()
            if (body := _whole_body(bytes(raw[end + 4 :]), headers)) is not None:
                first = first or time.perf_counter()
                return Exchange(status=status, headers=headers, body=body, size=len(raw), first_us=(first - started) * 1e6)


def check(target: Target, *, stream: bool) -> tuple[str | None, int]:
    """What is wrong with a target's answer (None: nothing), and the size of the answer on the wire."""
    try:
        with Probe(target) as probe:
            exchange = probe.ask(stream=stream)
    except OSError as broken:
        return f"{type(broken).__name__}: {broken}", 0
    if exchange.status != 200:
        return f"status {exchange.status}: {exchange.body[:200].decode(errors='replace')}", 0
    try:
        text = _stream_text(exchange.body) if stream else msgspec.json.decode(exchange.body)["choices"][0]["message"]["content"]
    except (msgspec.DecodeError, LookupError, TypeError) as wrong:
        return f"{type(wrong).__name__}: {exchange.body[:200].decode(errors='replace')}", 0
    return (None if text == TEXT else f"another text: {text!r}"), exchange.size


def _stream_text(body: bytes) -> str:
    events = [line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")]
    if not events or events[-1] != b"[DONE]":
        raise LookupError("no end mark")
    choices = (choice for event in events[:-1] for choice in msgspec.json.decode(event)["choices"])
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    lines = raw.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split(" ")[1]), headers


def _whole_body(raw: bytes, headers: dict[str, str]) -> bytes | None:
    """The decoded body once all of it is there."""
    if "chunked" not in headers.get("transfer-encoding", ""):
        length = int(headers.get("content-length", "0"))
        return raw if len(raw) >= length else None
    if not raw.endswith(b"0\r\n\r\n"):
        return None
    body, at = b"", 0
    while (end := raw.find(b"\r\n", at)) >= 0 and (size := int(raw[at:end], 16)):
        body += raw[end + 2 : end + 2 + size]
        at = end + 4 + size
    return body if end >= 0 else None
