"""Turns of conversations, opened and sealed: what the recall stage reads and keeps.

A conversation's turn is in the store before its answer's last byte is sent, so that the next one finds it on any worker, however soon it
comes. While the store is away, turns wait in this worker. Embeddings are added afterwards: nobody waits for them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec.structs import replace

from farthing.cipher import CannotOpen, Cipher
from farthing.errors import FarthingError, InvalidRequest
from farthing.memory.vectors import Vectors
from farthing.ports import TurnStore
from farthing.settings.memory_recall import RecallSettings
from farthing.types import Turn

_log = logging.getLogger("farthing.memory")
_LONGEST_PAUSE_S = 5.0
_PAUSE_S = 0.1
_BATCH = 64


Whose = tuple[str, str | None, str]
"""A tenant, a user (None: nobody's), a conversation."""


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """A turn, and what was said. The turn's payload is empty until it is sealed."""

    turn: Turn
    text: str


class Conversations:
    """`dropped` counts turns that were lost: no room while the store was away, or it cannot hold them."""

    def __init__(self, store: TurnStore, cipher: Cipher, vectors: Vectors, settings: RecallSettings) -> None:
        self._store = store
        self._cipher = cipher
        self._vectors = vectors
        self._settings = settings
        self._pending: deque[Spoken] = deque()
        self._unread: deque[Spoken] = deque(maxlen=settings.max_pending_turns)
        self._news = asyncio.Event()
        self._away = False
        self.dropped = 0

    @property
    def pending(self) -> int:
        """Turns that are not in the store yet."""
        return len(self._pending)

    async def of(self, tenant: str, user: str | None, conversation: str, *, limit: int) -> list[Spoken]:
        """The latest turns of a conversation, in order, those included that the store does not have yet. Raises the store's errors."""
        return self._opened(await self._store.of(tenant, user, conversation, limit=limit), self._waiting(tenant, user, conversation))

    async def of_user(self, tenant: str, user: str, *, limit: int) -> list[Spoken]:
        """The latest turns of a user, in order. Raises the store's errors."""
        return self._opened(await self._store.of_user(tenant, user, limit=limit), [])

    def _waiting(self, tenant: str, user: str | None, conversation: str) -> list[Spoken]:
        whose = (tenant, user, conversation)
        return [one for one in self._pending if (one.turn.tenant, one.turn.user, one.turn.conversation) == whose]

    def _opened(self, turns: Sequence[Turn], more: Sequence[Spoken]) -> list[Spoken]:
        found = [opened for turn in turns if (opened := self._open(turn)) is not None]
        stored = {turn.id for turn in turns}
        return [*found, *(one for one in more if one.turn.id not in stored)]

    def _open(self, turn: Turn) -> Spoken | None:
        try:
            text = self._cipher.open(turn.payload, _about(turn)).decode(errors="replace")
        except CannotOpen as error:
            _log.warning("a turn of a conversation cannot be read and counts as absent: %s", error)
            return None
        return Spoken(turn=replace(turn, vector=self._comparable(turn)), text=text)

    def _comparable(self, turn: Turn) -> bytes | None:
        return turn.vector if turn.embedder is not None and turn.embedder == self._vectors.embedder else None

    def turn(self, whose: Whose, after: UUID | None, role: str, text: str, at: datetime) -> Spoken:
        """A turn after another one. The same turn has the same id: a retry stores nothing twice. Of two answers the first is kept."""
        tenant, user, conversation = whose
        parts = (tenant, user or "", conversation, str(after), role, text if role == "user" else "")
        said = [part.encode(errors="replace") for part in parts]
        name = UUID(bytes=self._cipher.name(b"".join(b"%d:%b" % (len(part), part) for part in said)))
        turn = Turn(id=name, tenant=tenant, user=user, conversation=conversation, role=role, payload=b"", at=at)
        return Spoken(turn=turn, text=text)

    async def keep(self, spoken: Sequence[Spoken]) -> bool:
        """Store turns. Waits a bounded time; False when they wait in this worker for the store. Never fails."""
        if not self._pending and not self._away:
            try:
                async with asyncio.timeout(self._settings.conversation_timeout_s):
                    await self._write(spoken)
            except (FarthingError, TimeoutError) as error:
                self._went(error)
            else:
                return True
        self._wait(spoken)
        return False

    def later(self, spoken: Sequence[Spoken]) -> None:
        """Store turns soon."""
        self._wait(spoken)

    def _wait(self, spoken: Sequence[Spoken]) -> None:
        for one in spoken:
            if len(self._pending) >= self._settings.max_pending_turns:
                self._pending.popleft()
                self.dropped += 1
            self._pending.append(one)
        self._news.set()

    def _went(self, error: BaseException) -> None:
        if not self._away:
            _log.warning("turns of conversations stay in this worker until the database is back: %s", error)
        self._away = True

    async def _write(self, spoken: Sequence[Spoken]) -> None:
        """Store turns together. Those that the store can never hold are lost. Raises `Unavailable`."""
        try:
            await self._store.add([self._sealed(one) for one in spoken])
        except InvalidRequest as error:
            _log.error("turns of a conversation cannot be stored and are dropped: %s", error)
            self.dropped += len(spoken)
            return
        self._unread.extend(one for one in spoken if one.turn.vector is None and self._vectors.embedder is not None)
        self._news.set()

    def _sealed(self, one: Spoken) -> Turn:
        return replace(one.turn, payload=self._cipher.seal(one.text.encode(errors="replace"), _about(one.turn)))

    async def run(self) -> None:
        """Write what waits, and add embeddings, until cancelled."""
        pause = _PAUSE_S
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.drain()
                await self.read()
                pause = _PAUSE_S
            except FarthingError as error:
                self._went(error)
                self._news.set()
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def drain(self) -> None:
        """Write all that waits, at once. Raises the store's errors."""
        while self._pending:
            batch = [self._pending[at] for at in range(min(len(self._pending), _BATCH))]
            await self._write(batch)
            written = {one.turn.id for one in batch}
            while self._pending and self._pending[0].turn.id in written:
                self._pending.popleft()
        self._away = False

    async def read(self) -> None:
        """Embed what has no embedding yet, at once. Raises the embedder's errors and the store's."""
        while self._unread and not self._pending:
            batch = [self._unread.popleft() for _ in range(min(len(self._unread), _BATCH))]
            vectors = await self._vectors.read([line_of(one.turn.role, one.text) for one in batch])
            embedder = self._vectors.embedder
            read = [
                replace(one, turn=replace(one.turn, vector=vector, embedder=embedder))
                for one, vector in zip(batch, vectors, strict=True)
                if vector is not None
            ]
            await self._store.add([self._sealed(one) for one in read])


def line_of(role: str, text: str) -> str:
    """What of a turn is embedded."""
    return f"{role}: {' '.join(text.split())}"


def _about(turn: Turn) -> bytes:
    return b"turn\0%s\0%s" % (turn.tenant.encode(), turn.id.bytes)
