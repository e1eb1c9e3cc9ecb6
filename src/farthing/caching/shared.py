"""The exact cache's second tier: answers in PostgreSQL, shared by workers and kept over restarts, off the request path.

A worker remembers which keys are there, so a miss asks nobody; only a key that is known to be there is read, with a deadline. Writes go
through a bounded queue in the background. A store that is away or slow costs hits, never answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

from farthing.caching.entry import Entry, pack, unpack
from farthing.cipher import CannotOpen, Cipher
from farthing.errors import FarthingError, InvalidRequest
from farthing.ports import AnswerStore
from farthing.settings import ExactCacheSettings
from farthing.types import Extras, StoredAnswer, utc_now

_log = logging.getLogger("farthing.cache")
_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_PRUNE_EVERY_S = 60.0
_BATCH = 100
_PAGE = 1000
_FIRST_WORD_S = 2.0
"""How long a start waits for the store to say what it has."""


class SharedTier:
    """With a `cipher`, answers are sealed at rest. `dropped` counts answers that found the write queue full.

    Entries are kept for `stretch` times their lifetime, as long as some mode may still give them.

    `asked`: the store has said what it has, or has had its time to. Until then a request is paid for that might have been a hit.
    """

    def __init__(self, store: AnswerStore, settings: ExactCacheSettings, cipher: Cipher | None = None, *, stretch: float = 1.0) -> None:
        self._store = store
        self._stretch = stretch
        self._cipher = cipher
        self._settings = settings
        self._known: dict[bytes, None] = {}
        self._queue: deque[tuple[str, str | None, Extras, bytes, Entry, datetime]] = deque()
        self._news = asyncio.Event()
        self.dropped = 0
        self.asked = False

    def learn(self, keys: list[bytes]) -> None:
        """Remember keys that are in the store; the oldest are forgotten first."""
        for key in keys:
            self._known[key] = None
        while len(self._known) > self._settings.max_known_keys:
            del self._known[next(iter(self._known))]

    async def reload(self) -> None:
        """Learn what the store has. Raises the store's errors."""
        self.learn(list(reversed(await self._store.keys(self._settings.max_known_keys))))

    async def refresh(self) -> None:
        """Learn what is new, for where no news come; all, when that is more than a page. Raises the store's errors."""
        most = min(_PAGE, self._settings.max_known_keys)
        page = await self._store.keys(most)
        if len(page) == most and page[-1] not in self._known:
            await self.reload()
        else:
            self.learn(list(reversed(page)))

    async def keep_up(self, every_s: float, first_word_s: float = _FIRST_WORD_S) -> None:
        """Learn what the store has, then by the clock what is new, for where no news come or some were missed. Until cancelled."""
        asking = asyncio.create_task(self._attempt(self.reload))
        try:
            await asyncio.wait({asking}, timeout=first_word_s)
            self.asked = True
            await asking
            while True:
                await asyncio.sleep(every_s)
                await self._attempt(self.refresh)
        finally:
            asking.cancel()

    async def _attempt(self, learning: Callable[[], Awaitable[None]]) -> None:
        try:
            await learning()
        except FarthingError as error:
            _log.debug("known answers not learned: %s", error)

    def has(self, key: bytes) -> bool:
        """Whether it is worth asking the store."""
        return key in self._known

    async def get(self, tenant: str, key: bytes) -> Entry | None:
        """The entry, or None when it is gone, or the store is away or too slow."""
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                stored = await self._store.get(tenant, key)
        except (FarthingError, TimeoutError):
            return None
        entry = self._opened(stored) if stored else None
        if entry is None:
            self._known.pop(key, None)
        return entry

    def put(self, tenant: str, extras: Extras, key: bytes, entry: Entry, user: str | None = None, arrived: datetime | None = None) -> None:
        """Queue an entry for the store, under namespace and tags of the request that brought it, on behalf of the user.

        `arrived` is when that request did: what was deleted since is not stored any more. None: now.
        """
        if len(self._queue) >= self._settings.write_queue:
            self.dropped += 1
            return
        self._queue.append((tenant, user, extras, key, entry, arrived or utc_now()))
        self._news.set()

    async def run(self) -> None:
        """Write at the pace of `write_rate`, and prune now and then, until cancelled."""
        pause = _PAUSE_S
        prune_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                if loop.time() >= prune_at:
                    prune_at = loop.time() + _PRUNE_EVERY_S
                    await self._store.prune(self._settings.max_rows)
                pause = max(_PAUSE_S, await self._write() / self._settings.write_rate)
            except FarthingError:
                pause = min(pause * 2, _LONGEST_PAUSE_S)
            except Exception:  # noqa: BLE001 - whatever it is, the writer must live and the log must say
                _log.exception("the answer cache's writer stumbled")
                pause = _LONGEST_PAUSE_S
            await asyncio.sleep(pause)
            if not self._queue:
                await self._wait_for_news(prune_at - loop.time())

    async def _wait_for_news(self, seconds: float) -> None:
        self._news.clear()
        try:
            async with asyncio.timeout(max(seconds, 0)):
                await self._news.wait()
        except TimeoutError:
            return

    async def _write(self) -> int:
        """Write one batch. What the store did not take stays in the queue. Returns how many were written."""
        batch = [self._stored(*self._queue[at]) for at in range(min(_BATCH, len(self._queue)))]
        if batch:
            try:
                await self._store.put(batch)
                self.learn([answer.key for answer in batch])
            except InvalidRequest as error:
                _log.error("answers that cannot be stored are dropped: %s", error)
                self.dropped += len(batch)
            for _ in batch:
                self._queue.popleft()
        return len(batch)

    async def drain(self) -> None:
        """Write all that waits, at once."""
        while await self._write():
            pass

    def _stored(self, tenant: str, user: str | None, extras: Extras, key: bytes, entry: Entry, created_at: datetime) -> StoredAnswer:
        """An entry as the store takes it. Made when it is written, not when it is queued: until then the memory tier's copy is enough."""
        packed = pack(entry)
        return StoredAnswer(
            key=key,
            tenant=tenant,
            user_id=user,
            namespace=extras.namespace,
            tags=extras.tags,
            model=entry.model,
            payload=packed if self._cipher is None else self._cipher.seal(packed, _about(tenant, key)),
            cost_microusd=entry.cost_microusd,
            created_at=created_at,
            expires_at=datetime.fromtimestamp(entry.good_until(self._stretch), UTC),
        )

    def _opened(self, stored: StoredAnswer) -> Entry | None:
        """The entry, sealed or not: the key may have been set after it was stored. None when it cannot be read."""
        payload = stored.payload
        if self._cipher is not None:
            with suppress(CannotOpen):
                payload = self._cipher.open(payload, _about(stored.tenant, stored.key))
        return unpack(payload)


def _about(tenant: str, key: bytes) -> bytes:
    return b"answer\0%s\0%s" % (tenant.encode(), key)
