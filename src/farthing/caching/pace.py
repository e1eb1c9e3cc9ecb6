"""How many questions a worker embeds: as many as it can where that brings hits, few where it does not, never more than a share of a core.

An embedding costs each request that waits for it some milliseconds, and the machine a few of one core. Where one question in a hundred
hits, that is cheap beside the model calls saved; where none does, it is paid for nothing. So each kind of traffic (tenant, namespace,
model) has its record, and one that has not brought hits gets a trickle, by which it is noticed when that changes.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from farthing.types import Request

_CHARACTERS = 60
"""Of a short question: what a unit of the rates is."""
_TRIAL = 200
"""Units that a kind of traffic gets before it is judged."""
_REMEMBERED = 1000
"""Looks, after which a record counts half."""
_KINDS = 10_000

Kind = tuple[str, str, str]
"""Tenant, namespace and model."""


def kind_of(request: Request) -> Kind:
    """The kind of traffic that a request belongs to."""
    return request.principal.tenant, request.extras.namespace, request.model


class _Bucket:
    """`rate` units a second, and as many at once after a quiet second. What is taken beyond that is owed."""

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._there = rate
        self._at = clock()

    def has(self) -> bool:
        now = self._clock()
        self._there = min(self._there + (now - self._at) * self._rate, self._rate)
        self._at = now
        return self._there >= 1

    def take(self, units: int) -> None:
        self._there -= units


class _Record(msgspec.Struct, gc=False):
    units: int = 0
    looks: int = 0
    hits: int = 0


class Pace:
    """`rate` bounds all, `idle_rate` what does not bring hits to `min_hit_rate` of the questions; in short questions a second.

    `skipped` counts requests that were not looked at for it.
    """

    def __init__(self, *, rate: float, idle_rate: float, min_hit_rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._all = _Bucket(rate, clock)
        self._idle = _Bucket(idle_rate, clock)
        self._min_hit_rate = min_hit_rate
        self._records: OrderedDict[Kind, _Record] = OrderedDict()
        self.skipped = 0

    def due(self, kind: Kind) -> bool:
        """Whether a question of this kind may be embedded now. False is counted."""
        due = self._all.has() and (self._pays(kind) or self._idle.has())
        self.skipped += not due
        return due

    def took(self, kind: Kind, text: str) -> None:
        """A question is embedded."""
        units = 1 + len(text) // _CHARACTERS
        self._all.take(units)
        if not self._pays(kind):
            self._idle.take(units)
        self._of(kind).units += units

    def looked(self, kind: Kind, *, hit: bool) -> None:
        """A question was compared with those that are there."""
        record = self._of(kind)
        record.looks += 1
        record.hits += hit
        if record.looks > _REMEMBERED:
            record.looks, record.hits = record.looks // 2, -(-record.hits // 2)

    def _pays(self, kind: Kind) -> bool:
        record = self._records.get(kind)
        return record is None or record.units < _TRIAL or record.hits >= self._min_hit_rate * record.looks

    def _of(self, kind: Kind) -> _Record:
        record = self._records.get(kind)
        if record is None:
            record = self._records[kind] = _Record()
            if len(self._records) > _KINDS:
                self._records.popitem(last=False)
        return record
