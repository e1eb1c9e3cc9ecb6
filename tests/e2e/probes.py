"""What an installation shows from outside, for tests that count: the gauges of /metrics and the totals of the ledger."""

from __future__ import annotations

import asyncio
import re
import time

import msgspec

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream

_GAUGE = re.compile(r"^(farthing_[a-z_]+) ([0-9.e+]+)$", re.MULTILINE)
_POLL_S = 0.02
_DEADLINE_S = 5.0


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger's totals: requests, attempts at providers, requests that ended in an error, and micro-dollars."""

    requests: int
    attempts: int
    errors: int
    spent: int
    saved: int


class Probe:
    """Looks at one installation with one worker in front of one upstream. Every wait has a deadline and tells what it saw."""

    def __init__(self, farthing: Installation, upstream: ScriptedUpstream) -> None:
        self.farthing = farthing
        self.upstream = upstream

    def gauges(self) -> dict[str, float]:
        """The gauges without labels, by their Prometheus name."""
        status, body = self.farthing.get("/metrics", key=self.farthing.key)
        assert status == 200, body
        return {name: float(value) for name, value in _GAUGE.findall(body.decode())}

    def in_flight(self) -> int:
        """Requests under way, without the one that asks."""
        return int(self.gauges()["farthing_requests_in_flight"]) - 1

    def until(self, gauge: str, value: float, timeout: float = _DEADLINE_S) -> None:
        """Wait until a gauge has a value."""
        deadline = time.monotonic() + timeout
        while (seen := self.gauges()[gauge]) != value:
            assert time.monotonic() < deadline, f"{gauge} stays at {seen} instead of {value}"
            time.sleep(_POLL_S)

    def quiet(self, timeout: float = 8.0) -> Totals:
        """Wait until no request and no flight is under way and the ledger's store has every row; what the ledger says then."""
        deadline = time.monotonic() + timeout
        while True:
            seen = self.gauges()
            under_way = (seen["farthing_requests_in_flight"] - 1, seen["farthing_flights"], seen["farthing_ledger_backlog_bytes"])
            if under_way == (0, 0, 0):
                break
            assert time.monotonic() < deadline, f"not quiet: requests, flights, backlog: {under_way}"
            time.sleep(_POLL_S)
        assert seen["farthing_ledger_dropped_total"] == 0
        found = self.farthing.report()
        return Totals(
            requests=found["requests"],
            attempts=found["attempts"],
            errors=found["errors"],
            spent=found["spent_microusd"],
            saved=found["saved_microusd"],
        )

    def connections(self) -> tuple[int, int]:
        """Sockets from the installation to providers by its own count, and sockets that the upstream has, from whomever."""
        return int(self.gauges()["farthing_upstream_connections"]), self.upstream.open_connections

    def adds(self, *, requests: int = 1, attempts: int | None = None, errors: int | None = None, idle: int = 1) -> Balance:
        """What happens inside adds exactly this to the ledger, and leaves nothing behind: no request, flight or connection.

        None: not looked at. At most `idle` connections to the upstream stay open, if there were not more before. In a coroutine, use
        `async with`: the loop must turn while the probe looks.
        """
        return Balance(self, requests=requests, attempts=attempts, errors=errors, idle=idle)


class Balance:
    """See `Probe.adds`."""

    def __init__(self, probe: Probe, *, requests: int, attempts: int | None, errors: int | None, idle: int) -> None:
        self._probe = probe
        self._expected = {"requests": requests, "attempts": attempts, "errors": errors}
        self._idle = idle

    def __enter__(self) -> None:
        self._before = self._probe.quiet()
        self._connections = self._probe.connections()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        after = self._probe.quiet()
        for name, expected in self._expected.items():
            seen = getattr(after, name) - getattr(self._before, name)
            assert expected in {None, seen}, f"{seen} more {name} instead of {expected}: {self._before} {after}"
        self._check_connections()

    def _check_connections(self) -> None:
        here, there = self._connections
        deadline = time.monotonic() + _DEADLINE_S
        while True:
            here_now, there_now = self._probe.connections()
            if here_now - here == there_now - there and here_now <= max(here, self._idle):
                return
            assert time.monotonic() < deadline, f"connections: {here} became {here_now}, of the upstream {there} became {there_now}"
            time.sleep(_POLL_S)

    async def __aenter__(self) -> None:
        await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await asyncio.to_thread(self.__exit__, kind)
