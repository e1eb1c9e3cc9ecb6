"""What EventBridge is told of our events, for rules of the account's own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from farthing.aws.calls import AwsCalls
from farthing.errors import Unavailable
from farthing.types import Event

SOURCE: Final = "farthing"
"""The `source` of all that we tell: a rule that brings events back to us must leave it out."""
_BATCH: Final = 10
_MOST_BYTES: Final = 250_000
"""Of a batch: AWS takes 256 KB, with some of its own."""
_TRIES: Final = 4
_PAUSE_S: Final = 0.1


class Mirror:
    """Events whose type matches one of `types` (exact, or `prefix*`), on a bus. Blocks."""

    def __init__(self, calls: AwsCalls, bus: str, types: Sequence[str]) -> None:
        self._calls = calls
        self._bus = bus
        self._types = types

    def tell(self, events: Sequence[Event]) -> None:
        """Tell, in batches of ten; what fails is tried again. Raises `Unavailable`: then some may have been told."""
        for batch in _batches([self._entry(event) for event in events if any(matches(each, event.type) for each in self._types)]):
            self._put(batch)

    def _entry(self, event: Event) -> dict[str, Any]:
        entry = {"Source": SOURCE, "DetailType": event.type[:128], "Detail": envelope(event), "Time": event.time, "EventBusName": self._bus}
        if size(entry) > _MOST_BYTES:  # they fit into our table, but not there with what EventBridge adds
            entry["Detail"] = envelope(msgspec.structs.replace(event, data=None), dataref=event.position)
        return entry

    def _put(self, left: list[dict[str, Any]]) -> None:
        for turn in range(_TRIES):
            told = self._calls.client("events").put_events(Entries=left)["Entries"]
            failed = [(entry, answer) for entry, answer in zip(left, told, strict=True) if answer.get("ErrorCode")]
            if not failed:
                return
            left = [entry for entry, _ in failed]
            time.sleep(_PAUSE_S * 2**turn)
        raise Unavailable(f"EventBridge did not take {len(left)} events ({failed[0][1]['ErrorCode']}).")


def envelope(event: Event, *, dataref: int | None = None) -> str:
    """An event as CloudEvents 1.0 has it, structured. `dataref`: the data is left out, and stands under this position."""
    body: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "time": event.time,
        "tenant": event.tenant,
        "datacontenttype": "application/json",
        **({"subject": event.subject} if event.subject is not None else {}),
        **({"user": event.user} if event.user is not None else {}),
        **event.extensions,
        **({"data": event.data} if dataref is None else {"dataref": f"farthing:position:{dataref}"}),
    }
    return msgspec.json.encode(body).decode()


def matches(pattern: str, name: str) -> bool:
    """Exact, `prefix*`, or `*`."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def size(entry: dict[str, Any]) -> int:
    """Bytes of an entry, by AWS's own rule: source, type and detail, and 14 for the time."""
    return 14 + sum(len(str(entry[name]).encode()) for name in ("Source", "DetailType", "Detail"))


def _batches(entries: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    total = 0
    for entry in entries:
        if batch and (len(batch) >= _BATCH or total + size(entry) > _MOST_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(entry)
        total += size(entry)
    if batch:
        yield batch
