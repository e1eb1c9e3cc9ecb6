"""The semantic cache's questions in PostgreSQL, with their vectors (pgvector)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg.rows import TupleRow

from farthing.postgres.connection import Connection
from farthing.postgres.erasures import UNTIL_WRITTEN, covered, erase
from farthing.postgres.pool import Database
from farthing.types import CacheScope, Neighbour, Question, QuestionsGone, question_worth, utc_now

DIMENSIONS = 384
_ROWS = 1000
"""Deleted in one transaction, so that nothing holds locks for long."""
_PAGE = 100
_IDS_PER_NOTICE = 150
_NOTICE_BYTES = 7900
"""NOTIFY carries less than 8,000."""
_LOOSE = 250
"""So many questions of a partition are compared one by one. What a partition has beyond them is found through the graph."""

_COLUMNS = """q.id, q.tenant, q.partition, q.namespace, q.user_id, q.tags, q.vector, q.payload, q.answer_key, q.request_id, q.cost_microusd,
  q.created_at, q.expires_at"""
# The graph holds the crowded questions of all partitions; a scan of it goes on until enough are of the one that is asked for, or
# `max_scan_tuples` were looked at. Without sorting and reading all, the planner cannot prefer to read a whole large partition or table.
_TUNE = """
SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL hnsw.ef_search = 100; SET LOCAL hnsw.iterative_scan = relaxed_order;
SET LOCAL hnsw.max_scan_tuples = 20000
"""
_OURS = "tenant = %(tenant)s AND partition = %(partition)s"
_SEARCH = f"""
WITH loose AS MATERIALIZED (
  SELECT id, vector <=> %(vector)s::halfvec AS distance FROM farthing.questions
  WHERE {_OURS} AND NOT crowded AND expires_at > %(now)s ORDER BY vector <=> %(vector)s::halfvec LIMIT %(most)s
), crowd AS MATERIALIZED (
  SELECT id, vector <=> %(vector)s::halfvec AS distance FROM farthing.questions
  WHERE {_OURS} AND crowded AND expires_at > %(now)s AND (SELECT EXISTS (SELECT FROM farthing.questions WHERE {_OURS} AND crowded))
  ORDER BY vector <=> %(vector)s::halfvec LIMIT %(most)s
)
SELECT {_COLUMNS}, near.distance
FROM (SELECT * FROM loose UNION ALL SELECT * FROM crowd) near JOIN farthing.questions q USING (id)
"""  # noqa: S608  # all parts are ours
_PUT = f"""
WITH stored AS (
  INSERT INTO farthing.questions (
    id, tenant, partition, namespace, user_id, tags, vector, payload, answer_key, request_id, cost_microusd, reuse, worth, crowded,
    created_at, expires_at
  )
  SELECT g.id, g.tenant, g.partition, g.namespace, g.user_id, g.tags, g.vector::halfvec({DIMENSIONS}), g.payload, g.answer_key,
    g.request_id, g.cost_microusd, 0, g.worth, (
      SELECT count(*) FROM (
        SELECT FROM farthing.questions q WHERE q.tenant = g.tenant AND q.partition = g.partition AND NOT q.crowded LIMIT {_LOOSE}
      ) AS loose
    ) >= {_LOOSE}, g.created_at, g.expires_at
  FROM (
    SELECT u.*, ARRAY(SELECT jsonb_array_elements_text(u.tag_list::jsonb)) AS tags FROM unnest(
      %(ids)s::uuid[], %(tenants)s::text[], %(partitions)s::bytea[], %(namespaces)s::text[], %(users)s::text[], %(tags)s::text[],
      %(vectors)s::text[], %(payloads)s::bytea[], %(keys)s::bytea[], %(requests)s::uuid[], %(costs)s::bigint[], %(worths)s::float8[],
      %(created)s::timestamptz[], %(expires)s::timestamptz[]
    ) AS u(id, tenant, partition, namespace, user_id, tag_list, vector, payload, answer_key, request_id, cost_microusd, worth,
      created_at, expires_at)
  ) AS g
  WHERE NOT {covered("questions", "g", "g.created_at", answer_key="answer_key")}
  ON CONFLICT (id) DO NOTHING
  RETURNING id
), pages AS (
  SELECT replace(id::text, '-', '') AS name, (row_number() OVER () - 1) / {_IDS_PER_NOTICE} AS page FROM stored
)
SELECT pg_notify('farthing_questions', string_agg(name, ',')) FROM pages GROUP BY page
"""  # noqa: S608  # the same
_NOTIFY = "SELECT pg_notify('farthing_questions', note) FROM unnest(%s::text[]) AS note"
_REMOVE = "DELETE FROM farthing.questions WHERE tenant = %s AND id = ANY (%s::uuid[]) RETURNING id"
_FORGET = """
DELETE FROM farthing.questions WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.questions
  WHERE tenant = %(tenant)s AND (%(namespace)s::text IS NULL OR namespace = %(namespace)s)
    AND (%(tag)s::text IS NULL OR %(tag)s = ANY (tags)) AND (%(user)s::text IS NULL OR user_id = %(user)s)
    AND (%(answer_key)s::bytea IS NULL OR answer_key = %(answer_key)s)
  LIMIT %(rows)s
))
"""
# One worker prunes at a time; another one that comes meanwhile has nothing to do.
_PRUNING = "SELECT pg_try_advisory_xact_lock(hashtextextended('farthing.questions.prune', 0))"
_PRUNE_EXPIRED = """
DELETE FROM farthing.questions WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.questions WHERE expires_at <= %(now)s ORDER BY expires_at LIMIT %(rows)s
))
"""
_PRUNE_WORTH_LEAST = """
DELETE FROM farthing.questions WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM farthing.questions ORDER BY worth DESC, id DESC OFFSET %(keep)s LIMIT %(rows)s
))
"""
_SIZE = "SELECT count(*) FROM farthing.questions WHERE expires_at > %s AND (%s::text IS NULL OR tenant = %s)"
_LATEST = f"""
SELECT {_COLUMNS}, q.worth FROM farthing.questions q
WHERE q.expires_at > %(now)s AND (q.worth, q.id) < (%(worth)s, %(id)s) ORDER BY q.worth DESC, q.id DESC LIMIT %(rows)s
"""  # noqa: S608  # the same
_NAMED = f"SELECT {_COLUMNS}, 0 FROM farthing.questions q WHERE q.id = ANY (%s::uuid[]) AND q.expires_at > %s"  # noqa: S608  # the same

_halves = struct.Struct(f">{DIMENSIONS}e")
_bytes = struct.Struct(f"{DIMENSIONS}b")


class PostgresQuestions:
    """`ports.QuestionStore` on `farthing.questions`. News for other workers (channel `questions`) are told in the same transaction.

    In partitions of up to 250 questions the nearest are found exactly; in larger ones through a graph that all tenants share, in
    which a question may be missed (see docs/schema.md). Row-level security checks the tenant of what is found once more.
    """

    def __init__(self, database: Database, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def search(self, tenant: str, partition: bytes, vector: bytes, *, most: int) -> list[Neighbour]:
        """See `ports.QuestionIndex.search`."""
        if most < 1 or not _usable(vector):
            return []
        values = {"tenant": tenant, "partition": partition, "vector": _text(vector), "now": self._clock(), "most": most}
        async with self._database.tenant(tenant) as connection:
            await connection.execute(_TUNE.encode())
            rows = await (await connection.execute(_SEARCH, values, binary=True)).fetchall()
        rows.sort(key=lambda row: float(row[-1]))
        return [Neighbour(question=_question(row), similarity=1 - row[-1]) for row in rows[:most]]

    async def put(self, questions: Sequence[Question]) -> None:
        """See `ports.QuestionIndex.put`."""
        usable = sorted((one for one in questions if _usable(one.vector)), key=lambda one: one.id)  # one order of locks everywhere
        if not usable:
            return
        values = {
            "ids": [one.id for one in usable],
            "tenants": [one.tenant for one in usable],
            "partitions": [one.partition for one in usable],
            "namespaces": [one.namespace for one in usable],
            "users": [one.user_id for one in usable],
            "tags": [msgspec.json.encode(one.tags).decode() for one in usable],
            "vectors": [_text(one.vector) for one in usable],
            "payloads": [one.payload for one in usable],
            "keys": [one.answer_key for one in usable],
            "requests": [one.request_id for one in usable],
            "costs": [one.cost_microusd for one in usable],
            "worths": [question_worth(one.cost_microusd, 0, one.created_at) for one in usable],
            "created": [one.created_at for one in usable],
            "expires": [one.expires_at for one in usable],
        }
        async with self._database.service() as connection:
            await connection.execute(UNTIL_WRITTEN)
            await connection.execute(_PUT, values)

    async def remove(self, tenant: str, ids: Sequence[UUID]) -> int:
        """See `ports.QuestionIndex.remove`."""
        removed = 0
        for start in range(0, len(ids), _ROWS):
            async with self._database.service() as connection:
                rows = await (await connection.execute(_REMOVE, (tenant, list(ids[start : start + _ROWS])))).fetchall()
                gone = [name for (name,) in rows]
                pages = [tuple(gone[at : at + _IDS_PER_NOTICE]) for at in range(0, len(gone), _IDS_PER_NOTICE)]
                await _tell(connection, [QuestionsGone(tenant=tenant, ids=page, at=self._clock()) for page in pages])
            removed += len(gone)
        return removed

    async def forget(self, tenant: str, scope: CacheScope) -> int:
        """See `ports.QuestionIndex.forget`."""
        if scope.user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        at = self._clock()
        async with self._database.service() as connection:
            await erase(connection, tenant, "questions", None, at, scope)
            await _tell(connection, [QuestionsGone(tenant=tenant, scope=scope, at=at)])
        values = {"namespace": scope.namespace, "tag": scope.tag, "user": scope.user_id, "answer_key": scope.answer_key, "tenant": tenant}
        return await self._database.repeat(_FORGET, values)

    async def prune(self, max_rows: int) -> int:
        """See `ports.QuestionIndex.prune`. Returns 0 when another worker is at it."""
        pruned = 0
        for statement in (_PRUNE_EXPIRED, _PRUNE_WORTH_LEAST):
            gone = _ROWS
            while gone == _ROWS:
                async with self._database.service() as connection:
                    if await (await connection.execute(_PRUNING)).fetchone() != (True,):
                        return pruned
                    values = {"now": self._clock(), "keep": max_rows, "rows": _ROWS}
                    gone = (await connection.execute(statement, values)).rowcount
                pruned += gone
        return pruned

    async def size(self, tenant: str | None = None) -> int:
        """See `ports.QuestionIndex.size`."""
        async with self._database.service() as connection:
            row = await (await connection.execute(_SIZE, (self._clock(), tenant, tenant))).fetchone()
        return int(row[0]) if row else 0

    async def latest(self, limit: int) -> list[Question]:
        """See `ports.QuestionStore.latest`. Read page by page, so that others get their turns meanwhile."""
        found: list[Question] = []
        values: dict[str, Any] = {"now": self._clock(), "worth": float("inf"), "id": UUID(int=2**128 - 1)}
        while len(found) < limit:
            asked = min(_PAGE, limit - len(found))
            async with self._database.service() as connection:
                rows = await (await connection.execute(_LATEST, {**values, "rows": asked}, binary=True)).fetchall()
            found += [_question(row) for row in rows]
            if len(rows) < asked:
                break
            values |= {"worth": rows[-1][-1], "id": rows[-1][0]}
            await asyncio.sleep(0)
        return found

    async def named(self, ids: Sequence[UUID]) -> list[Question]:
        """See `ports.QuestionStore.named`."""
        if not ids:
            return []
        async with self._database.service() as connection:
            rows = await (await connection.execute(_NAMED, (list(ids), self._clock()), binary=True)).fetchall()
        return [_question(row) for row in rows]


async def _tell(connection: Connection, gone: Sequence[QuestionsGone]) -> None:
    """Tell other workers. Where a scope is too long to be told, all of the tenant is meant: that costs them hits and nothing else."""
    notes = [msgspec.json.encode(one) for one in gone]
    short = [
        note if len(note) <= _NOTICE_BYTES else msgspec.json.encode(QuestionsGone(tenant=one.tenant, at=one.at))
        for note, one in zip(notes, gone, strict=True)
    ]
    await connection.execute(_NOTIFY, ([note.decode() for note in short],))


def _usable(vector: bytes) -> bool:
    return len(vector) == DIMENSIONS and vector.count(0) < DIMENSIONS


def _text(vector: bytes) -> str:
    """As pgvector reads it. Half precision holds all integers up to 2048 exactly."""
    return str(memoryview(vector).cast("b").tolist())


def _question(row: TupleRow) -> Question:
    name, tenant, partition, namespace, user_id, tags, vector, payload, answer_key, request_id, cost, created_at, expires_at = row[:13]
    return Question(
        id=name,
        tenant=tenant,
        partition=bytes(partition),
        namespace=namespace,
        user_id=user_id,
        tags=tuple(tags),
        # pgvector's binary form: two numbers of 16 bits (dimensions, nothing), then the components.
        vector=_bytes.pack(*map(int, _halves.unpack_from(vector, 4))),
        payload=bytes(payload),
        answer_key=bytes(answer_key),
        request_id=request_id,
        cost_microusd=cost,
        created_at=created_at,
        expires_at=expires_at,
    )
