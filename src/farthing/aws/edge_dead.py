"""Which answers of a KeyValueStore are to go. Pure: no I/O."""

from __future__ import annotations

from datetime import datetime

from farthing.aws.edge_codec import Head, NotOurs, decode, micros, state_key

_Row = tuple[str, Head | None]
"""A key, and what is said of its answer; None: it is none of ours."""


def fresh(tenant_part: str, head: Head, values: dict[str, str]) -> bool:
    """Whether no state that an answer was computed from is another by now. One that went down is another: the store was made anew."""
    return all(int(values.get(state_key(tenant_part, state), "0")) == version for state, version in head.v.items())


def superfluous(there: dict[str, str], now: datetime, *, max_rows: int | None = None, max_bytes: int | None = None) -> list[_Row]:
    """What has expired, is stale, or is none of ours; then the oldest answers beyond a number of them, or of bytes of the whole store."""
    alive: list[tuple[str, Head]] = []
    gone: list[_Row] = []
    for key, value in there.items():
        if not key.startswith("a."):
            continue
        head = _head(value)
        if head is None or head.e <= micros(now) or not fresh(key.split(".")[1], head, there):
            gone.append((key, head))
        else:
            alive.append((key, head))
    alive.sort(key=lambda row: row[1].t)
    size = sum(_bytes(key, there) for key in there) - sum(_bytes(key, there) for key, _ in gone)
    for count, (key, head) in enumerate(alive):
        if (max_rows is None or len(alive) - count <= max_rows) and (max_bytes is None or size <= max_bytes):
            break
        gone.append((key, head))
        size -= _bytes(key, there)
    return gone


def _head(value: str) -> Head | None:
    try:
        return decode(value)[0]
    except NotOurs:
        return None


def _bytes(key: str, there: dict[str, str]) -> int:
    return len(key.encode()) + len(there[key].encode())
