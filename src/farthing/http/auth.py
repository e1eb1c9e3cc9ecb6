"""Virtual keys: a snapshot in this process, refreshed by news and by the clock."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from farthing.errors import FarthingError, KeyInUrl, Unauthenticated, Unavailable
from farthing.http.asgi import Scope
from farthing.ports import KeyStore
from farthing.settings import KeySettings
from farthing.snapshot import Snapshot
from farthing.types import KeyRecord, Principal, utc_now

_log = logging.getLogger("farthing.keys")
_PREFIX = "fk-"
_IN_SUBPROTOCOL = "bearer."
"""Before the key in `Sec-WebSocket-Protocol`, the only header that a browser lets a WebSocket's caller set."""
_LONGEST = 256
_LOOKUP_TIMEOUT_S = 0.5
_MAX_UNKNOWN = 10_000
_FIRST_WORD_S = 2.0
"""How long a start waits for the store before it goes by the snapshot."""
_UNCONFIRMED_PAUSE_S = 0.5
_SAVE_PAUSE_S = 1.0
_IN_URL = re.compile(
    rb"(?:^|[&;])(?:[a-z_\-]*key|access_token|token|authorization)=|fk-[A-Za-z0-9_\-]{8}|sk-[A-Za-z0-9_\-]{8}", re.IGNORECASE
)


def new_key() -> str:
    """A fresh key: 256 random bits, so that a plain SHA-256 of it cannot be turned back."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> bytes:
    """What is stored of a key."""
    return hashlib.sha256(key.encode()).digest()


def bearer(scope: Scope) -> str:
    """The key of a request, out of its headers. Raises `KeyInUrl` or `Unauthenticated`."""
    if scope["query_string"] and _IN_URL.search(scope["query_string"]):
        raise KeyInUrl("An API key does not belong in a URL, where logs and proxies keep it: send it as `Authorization: Bearer KEY`.")
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer" and token.strip():
                return str(token.strip(), "latin-1")
            raise Unauthenticated("The Authorization header must read `Bearer KEY`.")
    for name, value in scope["headers"]:
        if name == b"x-api-key" and value:
            return str(value, "latin-1")
    for protocol in scope.get("subprotocols", ()):
        if protocol.startswith(_IN_SUBPROTOCOL):
            return str(protocol).removeprefix(_IN_SUBPROTOCOL)
    raise Unauthenticated("No API key given: send it as `Authorization: Bearer KEY`.")


class KeyRing:
    """Knows who is behind a key.

    All keys are held in memory up to `max_cached`. A key that is not among them is looked up once, with a deadline, and then remembered
    as unknown until the next refresh. While the store is away the last known keys count; at a start without it, those of the snapshot.
    `loaded`: there are keys to go by. `confirmed`: the store has said so since the start; one without any key has not. `before_use` is
    awaited between reading keys and opening to them: what must be known of a key by then (its budget) is read there. It may raise as the
    store does.
    """

    def __init__(
        self,
        store: KeyStore,
        settings: KeySettings,
        snapshot: Snapshot[KeyRecord] | None = None,
        before_use: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._before_use = before_use
        self._settings = settings
        self._snapshot = snapshot
        self._reloading = asyncio.Lock()
        self._changed = asyncio.Event()
        self._known: dict[bytes, KeyRecord] = {}
        self._principals: dict[bytes, Principal] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._looking = asyncio.Semaphore(4)
        self.loaded = False
        self.confirmed = False

    async def reload(self) -> None:
        """Read all keys anew. Raises the store's errors and keeps the old ones then."""
        async with self._reloading:  # an older answer must not overtake a newer one: it may hold a key that was revoked since
            records = await self._store.all(self._settings.max_cached)
            if not records and not self.confirmed:
                return  # the first key, the admin's, is on its way: we were faster than whoever sees to the schema and to it
            if self._before_use is not None:
                await self._before_use()
            changed = self._take(records) or not self.confirmed
            self._unknown.clear()
            self.loaded = self.confirmed = True
        if changed:
            self._changed.set()

    def _take(self, records: list[KeyRecord]) -> bool:
        known = {record.digest: record for record in records}
        if known == self._known:
            return False
        self._known = known
        self._principals = {record.digest: _principal(record) for record in records}
        return True

    async def run(self) -> None:
        """Get the first keys, then refresh by the clock until cancelled.

        The store has the first word. When it does not answer within `_FIRST_WORD_S`, the snapshot counts until it does.
        """
        asking = asyncio.create_task(self._refresh())
        try:
            await asyncio.wait({asking}, timeout=_FIRST_WORD_S)
            if not self.loaded:
                await self._restore()
            await asking
            while True:
                await asyncio.sleep(self._settings.refresh_s if self.confirmed else _UNCONFIRMED_PAUSE_S)
                await self._refresh()
        finally:
            asking.cancel()

    async def _refresh(self) -> None:
        try:
            await self.reload()
        except FarthingError as error:
            _log.debug("keys not refreshed: %s", error)

    async def _restore(self) -> None:
        saved = None if self._snapshot is None else await asyncio.to_thread(self._snapshot.read)
        if saved is None:
            _log.warning("the database does not answer and there is no snapshot of keys: requests wait for it")
        elif not self.loaded:
            self._take(saved.records)
            self.loaded = True
            at = saved.at.isoformat(timespec="seconds")
            _log.warning("the database does not answer: the keys of %s count until it does (%d)", at, len(saved.records))

    async def save(self) -> None:
        """Write the snapshot whenever the keys have changed, at most once in `_SAVE_PAUSE_S`, until cancelled.

        When the disk refuses, it is tried again at the pace of the refreshes.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._snapshot is None or await asyncio.to_thread(self._snapshot.write, list(self._known.values())):
                await asyncio.sleep(_SAVE_PAUSE_S)
            else:
                self._changed.set()  # what is on disk may hold a key that was revoked since
                await asyncio.sleep(self._settings.refresh_s)

    async def close(self) -> None:
        """Write what the background has not written yet."""
        if self._snapshot is not None and self._changed.is_set():
            self._changed.clear()
            await asyncio.to_thread(self._snapshot.write, list(self._known.values()))

    async def authenticate(self, key: str) -> Principal:
        """Who holds this key. Raises `Unauthenticated`, or `Unavailable` when it cannot be known."""
        if len(key) > _LONGEST or not key.isascii():
            raise _wrong(key)
        digest = digest_of(key)
        record = self._known.get(digest)
        if record is None:
            record = await self._look_up(digest, key)
        if not hmac.compare_digest(record.digest, digest):
            raise _wrong(key)
        if record.revoked_at is not None:
            raise Unauthenticated("This API key was revoked.")
        if record.expires_at is not None and record.expires_at <= utc_now():
            raise Unauthenticated("This API key has expired.")
        return self._principals[digest]

    async def _look_up(self, digest: bytes, key: str) -> KeyRecord:
        until = self._unknown.get(digest)
        if until is not None and until > time.monotonic():
            raise _wrong(key)
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT_S), self._looking:
                record = await self._store.find(digest)
                if record is not None and self._before_use is not None:
                    await self._before_use()
        except (FarthingError, TimeoutError):
            if self.loaded:
                raise _wrong(key) from None
            raise Unavailable("Keys cannot be checked at the moment.", retry_after_s=1.0) from None
        if record is None:
            self._unknown[digest] = time.monotonic() + self._settings.refresh_s
            while len(self._unknown) > _MAX_UNKNOWN:
                self._unknown.popitem(last=False)
            raise _wrong(key)
        self._known[digest] = record
        self._principals[digest] = _principal(record)
        return record


def _principal(record: KeyRecord) -> Principal:
    return Principal(
        key_id=record.id,
        tenant=record.tenant,
        user=record.user,
        tier=record.tier,
        admin=record.admin,
        models=None if record.models is None else frozenset(record.models),
        limits=record.limits,
    )


def _wrong(key: str) -> Unauthenticated:
    shown = f"…{key[-4:]}" if key.startswith(_PREFIX) and len(key) > 2 * len(_PREFIX) + 4 else "given"
    return Unauthenticated(f"The API key {shown} is not known here.")
