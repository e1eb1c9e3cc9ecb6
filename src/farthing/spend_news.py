"""What workers tell each other of what they spend, as text short enough for PostgreSQL's NOTIFY. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Annotated

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import SpendRow

MOST_BYTES = 7900
"""A NOTIFY takes less than 8,000."""

_LONGEST_NAME = 256
_HEAD_BYTES = 200
_Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
_Text = Annotated[str, msgspec.Meta(max_length=_LONGEST_NAME)]


_Told = tuple[_Text, _Text | None, _Text | None, _Text | None, _Count, _Count]


class SpendNews(msgspec.Struct, frozen=True, array_like=True):
    """The `number`th piece of news of a worker: what it has spent since the one before."""

    worker: _Text
    number: _Count
    at: float
    rows: Annotated[list[_Told], msgspec.Meta(max_length=1000)]

    def spent(self) -> list[SpendRow]:
        """As rows."""
        return [
            SpendRow(at=self.at, tenant=tenant, tier=tier, key_id=key, mode=mode, microusd=microusd, requests=requests)
            for tenant, tier, key, mode, microusd, requests in self.rows
        ]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SpendNews).decode


def pieces(rows: Sequence[SpendRow], worker: str, numbers: Iterator[int]) -> list[str]:
    """The news in as many pieces as needed, each with its number. All at the time of the first row."""
    told: list[str] = []
    held: list[_Told] = []
    size = 0
    for row in rows:
        told_of = _told(row)
        bytes_of = len(_encode(told_of))
        if size + bytes_of > MOST_BYTES - _HEAD_BYTES:
            told.append(_piece(rows[0].at, held, worker, numbers))
            held, size = [], 0
        held.append(told_of)
        size += bytes_of + 1
    if held:
        told.append(_piece(rows[0].at, held, worker, numbers))
    return told


def _piece(at: float, rows: list[_Told], worker: str, numbers: Iterator[int]) -> str:
    return _encode(SpendNews(worker[:64], next(numbers), at, rows)).decode()


def _told(row: SpendRow) -> _Told:
    """A row as it is told. Without names, when one is longer than any of ours."""
    names = (row.tenant, row.tier, row.key_id, row.mode)
    if any(name is not None and len(name) > _LONGEST_NAME for name in names):
        return "", None, None, None, row.microusd, row.requests
    return *names, row.microusd, row.requests


def read(payload: str) -> SpendNews:
    """What a piece says. Raises `InvalidRequest`."""
    try:
        return _decode(payload.encode())
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequest(f"that is no news of spending: {error}") from None


def numbers() -> Iterator[int]:
    """Of a worker's pieces."""
    return itertools.count(1)


class Hearing:
    """Which pieces of which worker were heard. Bounded: workers that were silent for longest are forgotten first."""

    def __init__(self, *, most: int = 1000) -> None:
        self._most = most
        self._last: dict[str, int] = {}

    def new(self, news: SpendNews) -> bool:
        """Whether a piece was not heard before."""
        return news.number > self._last.get(news.worker, 0)

    def take(self, news: SpendNews) -> bool:
        """Remember a piece. False when others before it were lost."""
        last = self._last.pop(news.worker, None)
        self._last[news.worker] = news.number
        while len(self._last) > self._most:
            del self._last[next(iter(self._last))]
        return last is None or news.number == last + 1
