"""The stores as plain dictionaries, bounded, with the behaviour of the database's (one contract suite runs on both)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from farthing.errors import InvalidRequest, Unavailable
from farthing.inprocess.flushes import Facts, Flushes
from farthing.ports import CHANNELS, EVERYTHING, ReportBy
from farthing.types import CacheScope, KeyRecord, LedgerEntry, Report, StoredAnswer, Totals, utc_now

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER = 2**31
_MONEY = 10**15
_DIGEST_BYTES = 32
_NAMELESS = "(none)"
_NAME_CHARS = 255


class InProcessChanges:
    """`ports.Changes` among the stores and watchers of one process. A watcher may lag `max_lag` pieces of news behind, then it ends."""

    def __init__(self, *, max_lag: int = 1000) -> None:
        self._max_lag = max_lag
        self._watchers: set[asyncio.Queue[tuple[str, str] | None]] = set()

    def publish(self, channel: str, payload: str = "") -> None:
        """Tell all watchers."""
        for queue in tuple(self._watchers):
            if queue.qsize() < self._max_lag:
                queue.put_nowait((channel, payload))
            else:
                self._watchers.discard(queue)
                queue.put_nowait(None)

    async def watch(self) -> AsyncGenerator[tuple[str, str], None]:
        """See `ports.Changes.watch`. Every channel comes first, with an empty payload: reload. Raises `Unavailable` when left behind."""
        queue: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()
        self._watchers.add(queue)
        try:
            for channel in CHANNELS:
                yield channel, ""
            while (news := await queue.get()) is not None:
                yield news
        finally:
            self._watchers.discard(queue)
        raise Unavailable("The watcher fell too far behind.")


class InProcessKeys:
    """`ports.KeyStore`. Holds `max_keys` at most, then `add` raises `Unavailable`."""

    def __init__(self, changes: InProcessChanges, *, max_keys: int = 100_000) -> None:
        self._changes = changes
        self._max_keys = max_keys
        self._by_digest: dict[bytes, KeyRecord] = {}
        self._digests: dict[UUID, bytes] = {}

    async def find(self, digest: bytes) -> KeyRecord | None:
        """See `ports.KeyStore.find`."""
        return self._by_digest.get(digest)

    async def all(self, limit: int) -> list[KeyRecord]:
        """See `ports.KeyStore.all`."""
        return sorted(self._by_digest.values(), key=lambda record: record.id, reverse=True)[:limit]

    async def add(self, record: KeyRecord) -> None:
        """See `ports.KeyStore.add`. Raises `InvalidRequest` when another key has its id."""
        if _digest(record.digest) in self._by_digest:
            return
        if record.id in self._digests:
            raise InvalidRequest("A key with this id exists.")
        if len(self._by_digest) >= self._max_keys:
            raise Unavailable(f"The store in this process holds {self._max_keys} keys and no more.")
        self._by_digest[record.digest] = record
        self._digests[record.id] = record.digest
        self._changes.publish("keys")

    async def revoke(self, key_id: UUID, at: datetime) -> bool:
        """See `ports.KeyStore.revoke`."""
        digest = self._digests.get(key_id)
        if digest is None:
            return False
        record = self._by_digest[digest]
        self._by_digest[digest] = msgspec.structs.replace(record, revoked_at=record.revoked_at or at)
        self._changes.publish("keys")
        return True


class InProcessLedger:
    """`ports.LedgerStore`. Keeps the last `max_entries`; reports know no older ones."""

    def __init__(self, *, max_entries: int = 100_000) -> None:
        self._max_entries = max_entries
        self._entries: dict[UUID, LedgerEntry] = {}

    def entries(self) -> Iterable[LedgerEntry]:
        """All that are kept, oldest first."""
        return self._entries.values()

    async def append(self, entries: Sequence[bytes]) -> int:
        """See `ports.LedgerStore.append`."""
        new: dict[UUID, LedgerEntry] = {}
        for entry in [_entry(raw) for raw in entries]:
            if entry.id not in self._entries:
                new.setdefault(entry.id, entry)
        self._entries.update(new)
        while len(self._entries) > self._max_entries:
            del self._entries[next(iter(self._entries))]
        return len(new)

    async def report(self, *, since: datetime, until: datetime, by: ReportBy, tenant: str | None) -> Report:
        """See `ports.LedgerStore.report`. A group without a name (no model, no key) is called "(none)"."""
        if since.tzinfo is None or until.tzinfo is None:
            raise InvalidRequest("A report needs instants with a time zone.")
        entries = [entry for entry in self._entries.values() if since <= _at(entry) < until and tenant in {None, entry.tenant}]
        return Report(
            since=since,
            until=until,
            by=by,
            total=_sum(entries),
            by_source=_grouped(entries, lambda entry: entry.source),
            rows=_grouped(entries, lambda entry: _name(entry, by)),
            notional_models=sorted({_name(entry, "model") for entry in entries if entry.price_source == "notional"}),
        )


class InProcessAnswers:
    """`ports.AnswerStore`. Holds what is put until it is pruned; beyond `max_bytes` of payload the oldest go at once."""

    def __init__(self, changes: InProcessChanges, *, max_bytes: int = 256_000_000, clock: Callable[[], datetime] = utc_now) -> None:
        self._changes = changes
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        self._entries: dict[tuple[str, bytes], StoredAnswer] = {}
        self._flushes = Flushes()

    async def get(self, tenant: str, key: bytes) -> StoredAnswer | None:
        """See `ports.AnswerStore.get`."""
        entry = self._entries.get((tenant, key))
        return entry if entry and entry.expires_at > self._clock() else None

    async def put(self, entries: Sequence[StoredAnswer]) -> None:
        """See `ports.AnswerStore.put`."""
        for entry in entries:
            _digest(entry.key)
        for entry in entries:
            place = (entry.tenant, entry.key)
            if self._flushes.cover(entry.tenant, entry.created_at, **_facts(entry)):
                continue
            if place not in self._entries or self._entries[place].created_at <= entry.created_at:
                self._remove([place])
                self._entries[place] = entry
                self._bytes += len(entry.payload)
        for place in self._oldest_first() if self._bytes > self._max_bytes else ():
            if self._bytes <= self._max_bytes:
                break
            self._remove([place])
        if entries:
            self._changes.publish("answers", ",".join(sorted({entry.key.hex() for entry in entries})))

    async def keys(self, limit: int) -> list[bytes]:
        """See `ports.AnswerStore.keys`."""
        now = self._clock()
        live = [place for place in reversed(self._oldest_first()) if self._entries[place].expires_at > now]
        return [key for _, key in live[:limit]]

    async def forget(self, tenant: str, scope: CacheScope = EVERYTHING) -> int:
        """See `ports.AnswerStore.forget`."""
        if scope.user_id == "":
            return 0
        self._flushes.add(tenant, scope, self._clock())
        gone = [place for place, entry in self._entries.items() if place[0] == tenant and scope.covers(**_facts(entry))]
        self._remove(gone)
        return len(gone)

    async def prune(self, max_rows: int) -> int:
        """See `ports.AnswerStore.prune`."""
        before, now = len(self._entries), self._clock()
        self._remove([place for place, entry in self._entries.items() if entry.expires_at <= now])
        self._remove(self._oldest_first()[: max(len(self._entries) - max_rows, 0)])
        self._flushes.prune(now)
        return before - len(self._entries)

    def _oldest_first(self) -> list[tuple[str, bytes]]:
        return sorted(self._entries, key=lambda place: self._entries[place].created_at)

    def _remove(self, places: Iterable[tuple[str, bytes]]) -> None:
        for place in places:
            gone = self._entries.pop(place, None)
            self._bytes -= len(gone.payload) if gone else 0


def _facts(entry: StoredAnswer) -> Facts:
    return {"namespace": entry.namespace, "tags": entry.tags, "user_id": entry.user_id, "answer_key": entry.key}


def _digest(value: bytes) -> bytes:
    if len(value) != _DIGEST_BYTES:
        raise InvalidRequest(f"A digest has {_DIGEST_BYTES} bytes.")
    return value


def _entry(raw: bytes) -> LedgerEntry:
    """Decode an entry, refusing what the database's columns would refuse."""
    try:
        entry = msgspec.json.decode(raw, type=LedgerEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"This is no ledger entry: {error}") from error
    values = msgspec.structs.asdict(entry)
    for name, value in values.items():
        if isinstance(value, str) and "\0" in value:
            raise InvalidRequest(f"{name} holds a NUL character.")
        if isinstance(value, int) and not -_limit(name) <= value < _limit(name):
            raise InvalidRequest(f"{name} is out of range.")
    for name in ("tokens_in", "tokens_out", "cost_microusd", "baseline_microusd"):
        if values[name] < 0:
            raise InvalidRequest(f"{name} is negative.")
    return entry


def _limit(name: str) -> int:
    if name in {"cost_microusd", "baseline_microusd", "saved_microusd"}:
        return _MONEY + 1
    return 2**63 if name.endswith(("_us", "_per_1m")) else _INTEGER


def _at(entry: LedgerEntry) -> datetime:
    return _EPOCH + timedelta(milliseconds=entry.id.int >> 80)


def _name(entry: LedgerEntry, by: ReportBy) -> str:
    if by == "model":
        model = entry.model_used if entry.model_used is not None else entry.model_asked
        return _NAMELESS if model is None else model[:_NAME_CHARS]
    if by == "key":
        return str(entry.key_id) if entry.key_id else _NAMELESS
    return entry.tenant if by == "tenant" else entry.source


def _grouped(entries: Iterable[LedgerEntry], name: Callable[[LedgerEntry], str]) -> dict[str, Totals]:
    groups: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        groups.setdefault(name(entry), []).append(entry)
    totals = {group: _sum(members) for group, members in groups.items()}
    return dict(sorted(totals.items(), key=lambda item: (-item[1].spent_microusd, item[0])))


def _sum(entries: Sequence[LedgerEntry]) -> Totals:
    return Totals(
        requests=sum(entry.final for entry in entries),
        attempts=sum(entry.attempt > 0 for entry in entries),
        errors=sum(entry.final and entry.error is not None for entry in entries),
        tokens_in=sum(entry.tokens_in for entry in entries),
        tokens_out=sum(entry.tokens_out for entry in entries),
        spent_microusd=sum(entry.cost_microusd for entry in entries),
        notional_microusd=sum(entry.cost_microusd for entry in entries if entry.price_source == "notional"),
        saved_microusd=sum(entry.saved_microusd for entry in entries),
    )
