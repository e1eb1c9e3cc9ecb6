"""Documents that all workers agree on, in a dictionary, where one process is all there is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime

import msgspec

from farthing.config import KEPT, MOST_NAMES, checked_name, decoded, encoded, line, may_follow
from farthing.errors import InvalidRequest
from farthing.inprocess.stores import InProcessChanges
from farthing.types import Document, Json, utc_now


class InProcessConfig:
    """`ports.ConfigStore`. Changes are told on the channel `config`."""

    def __init__(
        self, changes: InProcessChanges, *, poll_s: float = 5.0, kept: int = KEPT, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.poll_s = poll_s
        self._changes = changes
        self._kept = kept
        self._clock = clock
        self._versions: dict[str, deque[tuple[Document, bytes]]] = {}

    async def read(self, name: str) -> Document | None:
        """See `ports.ConfigStore.read`."""
        held = self._versions.get(checked_name(name))
        return _fresh(*held[-1]) if held else None

    async def write(self, name: str, body: Json, *, expect: int | None, by: str, reason: str) -> Document:
        """See `ports.ConfigStore.write`."""
        data = encoded(name, body)
        version = may_follow(name, await self.read(name), expect)
        if name not in self._versions and len(self._versions) >= MOST_NAMES:
            raise InvalidRequest(f"the store holds {MOST_NAMES} documents and no more")
        made = Document(name=name, version=version, body={}, at=self._clock(), by=line(by), reason=line(reason))
        self._versions.setdefault(name, deque(maxlen=self._kept)).append((made, data))
        self._changes.publish("config", name)
        return _fresh(made, data)

    async def history(self, name: str, limit: int) -> list[Document]:
        """See `ports.ConfigStore.history`."""
        held = self._versions.get(checked_name(name), ())
        return [_fresh(*one) for one in list(reversed(held))[: max(limit, 0)]]


def _fresh(document: Document, data: bytes) -> Document:
    """With a body of its own: what a reader changes in it changes nothing here."""
    return msgspec.structs.replace(document, body=decoded(document.name, data))
