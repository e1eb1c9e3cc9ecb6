"""The index of the semantic cache in Redis or Valkey. All workers share it: nothing of it is copied into their memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from farthing.errors import SettingsError, Unavailable
from farthing.redis import erasures, index
from farthing.redis.engine import Command, Engine, Session
from farthing.redis.layout import Layout, VectorType, digest, microseconds
from farthing.settings import RedisSettings
from farthing.types import CacheScope, Neighbour, Question, ServedHit, question_worth, utc_now

_TOGETHER = 32
"""Questions that are stored or deleted in one exchange. Each takes the engine some tenths of a millisecond, and searches wait meanwhile."""
_PAGE = 500
"""Ids read at once while looking through a tenant's questions."""
_MOST_SOUGHT = 2048
"""How far a search goes on when what it found first has expired or was deleted a moment ago."""
_TRIES = 10
"""Of a batch that erasures keep coming in between."""
_PRUNING_MS = 60_000
_MILLISECOND = timedelta(milliseconds=1)

T = TypeVar("T")


class RedisQuestions:
    """`ports.QuestionIndex` on a search index over hashes.

    `dimensions` are those of the embedder; another number makes another index, beside the old one, whose questions expire in their time.
    A search has `timeout_s` for each exchange with the engine, all else `write_timeout_s`, in seconds. `clock` says what is expired; the
    engine lets questions go by its own clock as well.

    The hashes are what counts. The search index over them may lag behind on some engines, so what it finds is checked, and deleting,
    counting and pruning go by sorted sets that are written in the same transaction as the hashes.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        dimensions: int,
        prefix: str = "farthing",
        vector_type: VectorType = "float32",
        timeout_s: float = 0.1,
        write_timeout_s: float = 2.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._engine = engine
        self._layout = Layout(prefix, dimensions, vector_type)
        self._timeout_s = timeout_s
        self._write_timeout_s = write_timeout_s
        self._clock = clock
        self._made = False

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.close()

    async def search(self, tenant: str, partition: bytes, vector: bytes, *, most: int) -> list[Neighbour]:
        """See `ports.QuestionIndex.search`."""
        packed = self._layout.vector(vector)
        if packed is None or most < 1:
            return []
        place = self._layout.place(digest(tenant), partition)
        sought = most
        while True:
            found = await self._nearest(place, packed, sought)
            near = [one for one in map(self._neighbour, found) if one and _belongs(one.question, tenant, partition, self._clock())]
            if len(near) >= most or len(found) < sought or sought >= _MOST_SOUGHT:
                return sorted(near, key=lambda one: -one.similarity)[:most]
            sought = min(sought * 4, _MOST_SOUGHT)

    async def put(self, questions: Sequence[Question]) -> None:
        """See `ports.QuestionIndex.put`. Other workers need not be told: they ask the same index."""
        now = self._clock()
        fit = {(one.tenant, one.id): one for one in reversed(questions) if one.expires_at > now and self._layout.vector(one.vector)}
        if fit and not self._made:
            await self._make()
        for some in _parts(list(fit.values()), _TOGETHER):
            await self._put(some)

    async def remove(self, tenant: str, ids: Sequence[UUID]) -> int:
        """See `ports.QuestionIndex.remove`. Questions of these ids are not stored any more, should one still be on its way."""
        owner, now, removed = digest(tenant), self._clock(), 0
        for some in _parts(list(dict.fromkeys(ids)), _TOGETHER):
            noted = [erasures.Erasure(tenant=owner, id=one) for one in some]
            await self._write([erasures.noting(self._layout, noted, now)])
            removed += await self._delete(owner, [one.bytes for one in some])
        return removed

    async def forget(self, tenant: str, scope: CacheScope) -> int:
        """See `ports.QuestionIndex.forget`. What was created before this is not stored any more."""
        owner = digest(tenant)
        erasure = erasures.of_scope(owner, scope)
        await self._write([erasures.noting(self._layout, [erasure], self._clock())])
        forgotten = 0
        async for ids in self._ids(owner):
            covered = ids if scope == CacheScope() else await self._covered(owner, ids, erasure)
            for some in _parts(covered, _TOGETHER):
                forgotten += await self._delete(owner, some)
        return forgotten

    async def prune(self, max_rows: int) -> int:
        """See `ports.QuestionIndex.prune`. Returns 0 when another worker is at it."""
        layout, now = self._layout, self._clock()
        (alone,) = await self._write([("SET", layout.pruning, "1", "NX", "PX", _PRUNING_MS)])
        if alone is None:
            return 0
        try:
            pruned = await self._prune_expired(now)
            await self._write([("ZREMRANGEBYSCORE", layout.tenants, "-inf", microseconds(now)), erasures.forgetting(layout, now)])
            return pruned + await self._prune_least(max_rows)
        finally:
            await self._write([("DEL", layout.pruning)])

    async def size(self, tenant: str | None = None) -> int:
        """See `ports.QuestionIndex.size`."""
        owners = [digest(tenant)] if tenant is not None else [one async for some in self._scan(self._layout.tenants) for one in some]
        after = f"({microseconds(self._clock())}"
        size = 0
        for some in _parts(list(dict.fromkeys(owners)), _PAGE):
            size += sum(await self._write([("ZCOUNT", self._layout.tenant(owner), after, "+inf") for owner in some]))
        return size

    async def served(self, hits: Sequence[ServedHit]) -> None:
        """Count hits as reuse of their questions, so that pruning keeps what is used.

        How often a question was used before is read off what it is worth: `types.question_worth` of an unused one, and the logarithm of
        the uses. Hits that are counted twice, or by two workers at once, only move their questions a little in the order of pruning.
        """
        used = Counter((digest(hit.tenant), hit.question_id.bytes) for hit in hits)
        for some in _parts(list(used), _TOGETHER):
            await self._raise_worth({place: used[place] for place in some})

    async def _nearest(self, place: str, vector: bytes, most: int) -> list[index.Found]:
        command = index.nearest(self._layout, place, vector, most, self._timeout_s)
        try:
            (reply,) = await self._engine.run([command], limit_s=self._timeout_s)
        except Unavailable as error:
            if not index.is_missing(error.__cause__):
                raise
            await self._make()
            (reply,) = await self._engine.run([command], limit_s=self._timeout_s)
        return await self._completed(index.answers(reply))

    async def _completed(self, found: list[index.Found]) -> list[index.Found]:
        """With the contents of the hashes, where the engine returned only what is indexed of them (MemoryDB may)."""
        lacking = [n for n, one in enumerate(found) if one.body is None]
        if not lacking:
            return found
        hashes = await self._engine.run([("HMGET", found[n].key, "b", "v") for n in lacking], limit_s=self._timeout_s)
        for n, (body, vector) in zip(lacking, hashes, strict=True):
            found[n] = index.Found(key=found[n].key, distance=found[n].distance, body=body, vector=vector)
        return found

    def _neighbour(self, found: index.Found) -> Neighbour | None:
        question = self._layout.question(found.body, found.vector)
        if question is None or not -1 < found.distance < 3:  # noqa: PLR2004  # a cosine's distance is 0 to 2, but for rounding; NaN is not
            return None
        return Neighbour(question=question, similarity=max(-1.0, min(1.0, 1 - found.distance)))

    async def _make(self) -> None:
        """Make the index unless it is there. Refuses an engine that would throw away what erasures rest on."""
        try:
            (memory,) = await self._write([("INFO", "memory")])
        except Unavailable as error:
            if not index.is_refused(error.__cause__):
                raise
            memory = b""  # this user may not look
        if b"maxmemory_policy:allkeys" in memory:
            raise Unavailable("Redis may evict any key (maxmemory-policy allkeys-…): it must be noeviction or volatile-….")
        try:
            await self._write([index.creation(self._layout)])
        except Unavailable as error:
            if not index.exists(error.__cause__):
                raise
        self._made = True

    async def _put(self, questions: Sequence[Question]) -> None:
        layout = self._layout
        oldest = min(one.created_at for one in questions)
        keys = [layout.entry(digest(one.tenant), one.id.bytes) for one in questions]
        reads: list[Command] = [("WATCH", layout.erased), erasures.since(layout, oldest), *(("EXISTS", key) for key in keys)]
        async with self._engine.session(limit_s=self._write_timeout_s) as session:
            for _ in range(_TRIES):
                if await self._put_unless_erased(session, questions, keys, reads):
                    return
        raise Unavailable("Redis is busy with erasures.", retry_after_s=1.0)

    async def _put_unless_erased(self, session: Session, questions: Sequence[Question], keys: list[str], reads: list[Command]) -> bool:
        """Store what is not there and not erased. False when there was an erasure meanwhile: nothing was stored then."""
        _, noted, *there = await session.run(reads)
        erased = erasures.read(noted)
        fresh = [
            (one, key)
            for one, key, present in zip(questions, keys, there, strict=True)
            if not present and not erasures.is_erased(one, erased)
        ]
        if not fresh:
            await session.run([("UNWATCH",)])
            return True
        return await session.transaction(self._storing(fresh)) is not None

    def _storing(self, questions: list[tuple[Question, str]]) -> list[Command]:
        layout, now = self._layout, self._clock()
        commands: list[Command] = []
        for one, key in questions:
            owner, expires = digest(one.tenant), microseconds(one.expires_at)
            vector = layout.vector(one.vector) or b""
            milliseconds = max(-((now - one.expires_at) // _MILLISECOND), 1)
            worth = question_worth(one.cost_microusd, 0, one.created_at)
            commands += [
                ("HSET", key, "p", layout.place(owner, one.partition), "v", vector, "b", layout.body(one)),
                ("PEXPIRE", key, milliseconds),
                ("ZADD", layout.tenant(owner), expires, one.id.bytes),
                ("ZADD", layout.worth, worth, owner + one.id.bytes),
                ("ZADD", layout.tenants, "GT", expires, owner),
            ]
        return commands

    async def _delete(self, owner: bytes, ids: Sequence[bytes]) -> int:
        """Delete questions of a tenant, as one. Returns how many of them were live."""
        if not ids:
            return 0
        layout = self._layout
        scores, *_ = await self._engine.transaction(
            [
                ("ZMSCORE", layout.tenant(owner), *ids),
                ("UNLINK", *(layout.entry(owner, one) for one in ids)),
                ("ZREM", layout.tenant(owner), *ids),
                ("ZREM", layout.worth, *(owner + one for one in ids)),
            ],
            limit_s=self._write_timeout_s,
        )
        now = microseconds(self._clock())
        return sum(score is not None and float(score) > now for score in scores)

    async def _covered(self, owner: bytes, ids: Sequence[bytes], erasure: erasures.Erasure) -> list[bytes]:
        """Those of a tenant's questions that an erasure covers."""
        hashes = await self._write([("HMGET", self._layout.entry(owner, one), "b", "v") for one in ids])
        questions = [self._layout.question(body, vector) for body, vector in hashes]
        return [one for one, question in zip(ids, questions, strict=True) if question and erasure.covers(question)]

    async def _prune_expired(self, now: datetime) -> int:
        layout, pruned = self._layout, 0
        async for some in self._scan(layout.tenants):
            owners = some
            while owners:
                asked: list[Command] = [
                    ("ZRANGEBYSCORE", layout.tenant(one), "-inf", microseconds(now), "LIMIT", 0, _PAGE) for one in owners
                ]
                expired = dict(zip(owners, await self._write(asked), strict=True))
                for owner, ids in expired.items():
                    await self._delete(owner, ids)
                    pruned += len(ids)
                owners = [owner for owner, ids in expired.items() if len(ids) == _PAGE]
        return pruned

    async def _prune_least(self, max_rows: int) -> int:
        layout, pruned = self._layout, 0
        while True:
            (rows,) = await self._write([("ZCARD", layout.worth)])
            excess = min(rows - max_rows, _TOGETHER)
            if excess <= 0:
                return pruned
            (least,) = await self._write([("ZRANGE", layout.worth, 0, excess - 1)])
            for owner in {place[:-16] for place in least}:
                await self._delete(owner, [place[-16:] for place in least if place[:-16] == owner])
            pruned += len(least)

    async def _raise_worth(self, used: dict[tuple[bytes, bytes], int]) -> None:
        layout = self._layout
        asked: list[Command] = []
        for owner, one in used:
            asked += [("HMGET", layout.entry(owner, one), "b", "v"), ("ZSCORE", layout.worth, owner + one)]
        replies = await self._write(asked)
        raised: list[Command] = []
        for (place, times), (body, vector), score in zip(used.items(), replies[::2], replies[1::2], strict=True):
            question = layout.question(body, vector)
            if question is not None and score is not None:
                unused = question_worth(question.cost_microusd, 0, question.created_at)
                before = round(2 ** max(float(score) - unused, 0)) - 1
                raised.append(("ZADD", layout.worth, "XX", "GT", unused + math.log2(1 + before + times), b"".join(place)))
        if raised:
            await self._write(raised)

    async def _ids(self, owner: bytes) -> AsyncIterator[list[bytes]]:
        async for some in self._scan(self._layout.tenant(owner)):
            yield some

    async def _scan(self, key: str) -> AsyncIterator[list[bytes]]:
        """The members of a sorted set, in pages. One that is there from begin to end is among them, maybe twice."""
        cursor = b"0"
        while True:
            ((cursor, members),) = await self._write([("ZSCAN", key, cursor, "COUNT", _PAGE)])
            yield members[::2]
            if cursor == b"0":
                return

    async def _write(self, commands: Sequence[Command]) -> list[Any]:
        return await self._engine.run(commands, limit_s=self._write_timeout_s)


def _belongs(question: Question, tenant: str, partition: bytes, now: datetime) -> bool:
    """Whether a question may be an answer here. The index says so too; this holds whatever it says."""
    return question.tenant == tenant and question.partition == partition and question.expires_at > now


def _parts(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def open_questions(settings: RedisSettings, *, dimensions: int, clock: Callable[[], datetime] = utc_now) -> RedisQuestions:
    """The index that the settings name. Connects at its first use. Raises `SettingsError` when they name none, or one that cannot be."""
    if settings.url is None:
        raise SettingsError("redis.url: is missing; such as rediss://user:password@host:6379")
    try:
        engine = Engine(settings.url.get_secret_value(), pool_size=settings.pool_size, connect_timeout_s=settings.connect_timeout_s)
    except ValueError:
        raise SettingsError("redis.url: is no URL of a Redis, such as rediss://user:password@host:6379") from None
    return RedisQuestions(
        engine,
        dimensions=dimensions,
        prefix=settings.prefix,
        vector_type=settings.vector_type,
        timeout_s=settings.timeout_s,
        write_timeout_s=settings.write_timeout_s,
        clock=clock,
    )
