"""How a run is started: made, filled in pieces, and sealed. Who is interrupted starts again from the beginning, and nothing is doubled."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable

import msgspec

from farthing.errors import InvalidRequest
from farthing.ports import JobStore
from farthing.types import MOST_KEY_BYTES, MOST_WIDE, NewItem, NewRun, Run

_BATCH = 1000
_BATCH_BYTES = 4 * 2**20
_MOST_NAME_BYTES = 512
MOST_PAYLOAD_BYTES = 1 * 2**20


async def start(store: JobStore, run: NewRun, items: Iterable[NewItem] | AsyncIterable[NewItem]) -> Run:
    """Make a run, or go on with the one of that name. Its items may be as many as come: some thousand are held at a time.

    A run of that name that takes no more items is returned as it is. Raises `InvalidRequest` for what cannot be a run or an item, with
    nothing lost: what was added before is done, and a start with what was meant adds the rest. Raises the store's errors.
    """
    check(run)
    found = await store.start(run)
    if found.state != "filling":
        return found
    batch: list[NewItem] = []
    size = 0
    async for item in _each(items):
        size += check_item(item)
        batch.append(item)
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            await store.add(found.id, batch)
            batch, size = [], 0
    if batch:
        await store.add(found.id, batch)
    return await store.seal(found.id)


def check(run: NewRun) -> None:
    """Raises `InvalidRequest`."""
    for where, text in (("kind", run.kind), ("name", run.name)):
        if not text or "\0" in text or len(text.encode(errors="replace")) > _MOST_NAME_BYTES:
            raise InvalidRequest(f"{where} must have 1 to {_MOST_NAME_BYTES} bytes, and no NUL", param=where)
    if not 1 <= run.wide <= MOST_WIDE:
        raise InvalidRequest(f"wide must be 1 to {MOST_WIDE}", param="wide")
    if not 1 <= run.attempts <= _MOST_ATTEMPTS:
        raise InvalidRequest(f"attempts must be 1 to {_MOST_ATTEMPTS}", param="attempts")
    for where, seconds in (("deadline_s", run.deadline_s), ("backoff_s", run.backoff_s)):
        if not 0 < seconds <= _MOST_SECONDS:
            raise InvalidRequest(f"{where} must be more than 0 and at most {_MOST_SECONDS} seconds", param=where)


def check_item(item: NewItem) -> int:
    """Its size in bytes. Raises `InvalidRequest`."""
    try:
        size = len(msgspec.json.encode(item.payload))
    except (TypeError, ValueError, OverflowError) as error:  # UnicodeEncodeError among them
        raise InvalidRequest(f"the payload of {item.key[:64]!r} is not JSON: {error}", param="payload") from None
    if not item.key or "\0" in item.key or len(item.key.encode(errors="replace")) > MOST_KEY_BYTES:
        raise InvalidRequest(f"the key of an item must have 1 to {MOST_KEY_BYTES} bytes, and no NUL: {item.key[:64]!r}", param="key")
    if size > MOST_PAYLOAD_BYTES:
        raise InvalidRequest(f"the payload of {item.key[:64]!r} has {size} bytes; {MOST_PAYLOAD_BYTES} are allowed", param="payload")
    return size


async def _each(items: Iterable[NewItem] | AsyncIterable[NewItem]) -> AsyncIterator[NewItem]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


_MOST_ATTEMPTS = 100
_MOST_SECONDS = 604_800
