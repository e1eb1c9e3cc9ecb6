"""Answers at the edge, sealed at rest: what the store and its backups hold of a text is opened by the key of the settings only."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from farthing.cipher import CannotOpen, Cipher
from farthing.ports import EdgeStore
from farthing.types import EdgeAnswer

_SEALED: Final = "sealed"


class SealedEdge:
    """A `ports.EdgeStore` in front of another one. One that cannot be opened (another key, or another answer's) is as good as absent.

    One that was stored before there was a key is given as it is.
    """

    def __init__(self, store: EdgeStore, cipher: Cipher) -> None:
        self._store = store
        self._cipher = cipher

    async def get(self, tenant: str, user: str, action: str) -> EdgeAnswer | None:
        """See `ports.EdgeStore.get`."""
        found = await self._store.get(tenant, user, action)
        if found is None or _SEALED not in found.body:
            return found
        try:
            text = self._cipher.open(base64.b64decode(found.body[_SEALED]), _about(found))
        except CannotOpen:
            return None
        return replace(found, body=msgspec.json.decode(text))

    async def put(self, answer: EdgeAnswer) -> bool:
        """See `ports.EdgeStore.put`."""
        sealed = self._cipher.seal(msgspec.json.encode(answer.body), _about(answer))
        return await self._store.put(replace(answer, body={_SEALED: base64.b64encode(sealed).decode()}))

    async def versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """See `ports.EdgeStore.versions`."""
        return await self._store.versions(tenant, states)

    async def bump(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """See `ports.EdgeStore.bump`."""
        return await self._store.bump(tenant, states)

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.EdgeStore.forget`."""
        return await self._store.forget(tenant, user_id)

    async def prune(self, max_rows: int) -> int:
        """See `ports.EdgeStore.prune`."""
        return await self._store.prune(max_rows)

    async def close(self) -> None:
        """See `ports.EdgeStore.close`."""
        await self._store.close()


def _about(answer: EdgeAnswer) -> bytes:
    return b"edge\0%s\0%s" % (answer.tenant.encode(), answer.request_id.bytes)
