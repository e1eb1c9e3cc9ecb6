"""Conversations that are continued by id: turns, sealed, each with the name of the one before it.

A turn is in the store before its answer's last byte is sent, so that the next one finds it on any worker, however soon it comes. While the
store is away, a turn stays with the worker that answered it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from farthing.cipher import CannotOpen, Cipher
from farthing.errors import FarthingError, InvalidRequest, PreviousResponseNotFound, Unavailable
from farthing.http.responses.items import response_id, response_name
from farthing.http.responses.writer import ResponseWriter, Stored
from farthing.ports import ResponseStore
from farthing.settings import ResponsesSettings
from farthing.types import Json, StoredResponse, utc_now

_log = logging.getLogger("farthing.responses")
_encode = msgspec.json.Encoder().encode
_PRUNE_EVERY_S = 300.0


class Turn(msgspec.Struct, kw_only=True):
    """One turn: the response object, and the items that were its input. `size` is how many bytes it is stored in."""

    response: Json
    items: list[Json]
    size: int = 0


_decode = msgspec.json.Decoder(Turn).decode


class Conversations:
    """The turns of all tenants; each method is for one."""

    def __init__(self, store: ResponseStore, cipher: Cipher, settings: ResponsesSettings) -> None:
        self._store = store
        self._cipher = cipher
        self._settings = settings
        self._writer = ResponseWriter(store, settings)

    @property
    def enabled(self) -> bool:
        """Whether anything is kept at all."""
        return self._settings.enabled

    @property
    def pending(self) -> int:
        """Turns that are not in the store yet."""
        return len(self._writer)

    @property
    def dropped(self) -> int:
        """Turns that were lost."""
        return self._writer.dropped

    async def keep(self, tenant: str, user: str | None, turn: Turn) -> Stored:
        """Keep a turn. Waits a bounded time for the store, and never fails."""
        response = turn.response
        turn_id = response_id(response["id"])
        assert turn_id is not None
        payload = _encode(turn)
        if len(payload) > self._settings.max_turn_bytes:
            return "no"
        now = utc_now()
        previous = response["previous_response_id"]
        stored = StoredResponse(
            id=turn_id,
            tenant=tenant,
            user_id=user,
            previous=response_id(previous) if previous else None,
            payload=self._cipher.seal(payload, _about(tenant, turn_id)),
            created_at=now,
            expires_at=now + timedelta(seconds=self._settings.ttl_s),
        )
        return await self._writer.put(stored)

    async def history(self, tenant: str, name: str) -> list[Turn]:
        """The turns up to one, oldest first.

        Raises `PreviousResponseNotFound`, also when an earlier turn is gone; `InvalidRequest` when there are too many; `Unavailable`.
        """
        settings = self._settings
        found: list[StoredResponse] = []
        held = 0
        wanted = response_id(name)
        if wanted is None or not settings.enabled:
            raise _not_found(name)
        async with self._reading():
            while wanted is not None:
                run = await self._run(tenant, wanted, settings.max_turns + 1 - len(found), settings.max_conversation_bytes - held)
                if not run:
                    raise _not_found(name, response_name(wanted) if found else None)
                found += run
                held += sum(len(one.payload) for one in run)
                if len(found) > settings.max_turns or held > settings.max_conversation_bytes:
                    bounds = f"{settings.max_turns} turns or {settings.max_conversation_bytes} bytes"
                    raise InvalidRequest(f"this conversation is longer than {bounds}: begin a new one", param="previous_response_id")
                wanted = run[-1].previous
            await self._renew(tenant, found)
        turns = [self._open(one) for one in found]
        opened = [turn for turn in turns if turn is not None]
        if len(opened) < len(turns):
            raise _not_found(name)
        return opened[::-1]

    async def find(self, tenant: str, turn_id: UUID) -> Turn | None:
        """One turn; None when there is none. Raises `Unavailable`."""
        return next(iter(await self.find_all(tenant, [turn_id])), None)

    async def find_all(self, tenant: str, turn_ids: Iterable[UUID]) -> list[Turn]:
        """Those of several turns that there are. Raises `Unavailable`."""
        async with self._reading():
            runs = [await self._run(tenant, turn_id, 1, self._settings.max_conversation_bytes) for turn_id in turn_ids]
        return [turn for run in runs if run and (turn := self._open(run[0])) is not None]

    async def delete(self, tenant: str, turn_id: UUID) -> bool:
        """Delete a turn. False when there is none. Raises `Unavailable`."""
        async with self._reading():
            if await self._writer.discard((tenant, turn_id)):
                return True
            return await self._store.delete(tenant, turn_id)

    async def _run(self, tenant: str, turn_id: UUID, most: int, most_bytes: int) -> list[StoredResponse]:
        """A turn and those before it, as far as one place has them."""
        pending = self._writer.find((tenant, turn_id))
        return [pending] if pending else await self._store.chain(tenant, turn_id, most=most, most_bytes=most_bytes)

    async def _renew(self, tenant: str, turns: Sequence[StoredResponse]) -> None:
        """Let the turns of a conversation that goes on live as long as its newest. Costs a write once in half a lifetime."""
        now: datetime = utc_now()
        life = timedelta(seconds=self._settings.ttl_s)
        old = [turn.id for turn in turns if turn.expires_at < now + life / 2]
        if old:
            with suppress(FarthingError):
                await self._store.renew(tenant, old, now + life)

    def _open(self, stored: StoredResponse) -> Turn | None:
        try:
            turn = _decode(self._cipher.open(stored.payload, _about(stored.tenant, stored.id)))
        except (CannotOpen, msgspec.MsgspecError) as error:
            _log.warning("a stored response cannot be read and counts as absent: %s", error)
            return None
        turn.size = len(stored.payload)
        return turn

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                yield
        except (Unavailable, TimeoutError) as error:
            said = "Stored responses cannot be reached at the moment; try again."
            raise Unavailable(said, retry_after_s=getattr(error, "retry_after_s", None) or 1.0) from error

    async def run(self) -> None:
        """Write what is to be kept, until cancelled."""
        await self._writer.run()

    async def prune(self) -> None:
        """Delete what has expired or is too much, now and then, until cancelled."""
        settings = self._settings
        while True:
            with suppress(FarthingError):
                await self._store.prune(
                    rows_per_tenant=settings.rows_per_tenant,
                    bytes_per_tenant=settings.bytes_per_tenant,
                    total_bytes=settings.total_bytes,
                )
            await asyncio.sleep(_PRUNE_EVERY_S)

    async def drain(self) -> None:
        """Write all that waits, at once. Raises the store's errors."""
        await self._writer.drain()


def _about(tenant: str, turn_id: UUID) -> bytes:
    return b"response\0%s\0%s" % (tenant.encode(), turn_id.bytes)


def _not_found(name: str, earlier: str | None = None) -> PreviousResponseNotFound:
    why = f" An earlier turn of its conversation, {earlier!r}, was deleted or has expired." if earlier else ""
    return PreviousResponseNotFound(f"Previous response with id {name[:128]!r} not found.{why}", param="previous_response_id")
