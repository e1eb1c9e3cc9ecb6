"""The back ends of the semantic cache, empty and ready, for `bench/cache.py`. Another one is another entry in `ENGINES`."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import psycopg
from redis import Redis

from farthing.inprocess.questions import InProcessQuestions
from farthing.ports import QuestionIndex
from farthing.postgres.embedded import EmbeddedPostgres
from farthing.postgres.migrate import migrate
from farthing.postgres.pool import Database
from farthing.postgres.questions import PostgresQuestions
from farthing.redis.engine import Engine as Connections
from farthing.redis.layout import VectorType
from farthing.redis.questions import RedisQuestions
from farthing.testing.redis import RedisServer

BULK = 50_000
"""From so many on, PostgreSQL's graph is built when all is there, as an administrator would."""
PATIENCE_S = 60.0
"""Deadlines of Redis: what is measured is how long it takes."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """`full` is called when all questions are in. `held_bytes` says what they take outside of this process; None: look at the process."""

    index: QuestionIndex
    full: Callable[[], None] = lambda: None
    held_bytes: Callable[[], int] | None = None


@asynccontextmanager
async def inprocess(size: int) -> AsyncIterator[Engine]:
    yield Engine(index=InProcessQuestions(max_entries=size, max_bytes=4000 * size))


@asynccontextmanager
async def postgres(size: int) -> AsyncIterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as folder:
        settings = {"shared_buffers": "1GB", "maintenance_work_mem": "1GB", "max_wal_size": "8GB", "fsync": "off"}
        server = EmbeddedPostgres(Path(folder) / "postgres", settings=settings)
        await server.start()
        try:
            await migrate(server.uri)
            database = Database(server.uri, statement_timeout_s=60)
            await database.open()

            def run(statement: str) -> int:
                with psycopg.connect(server.uri, autocommit=True) as connection:
                    cursor = connection.execute(statement.encode())
                    row = cursor.fetchone() if cursor.description else None
                    return int(row[0]) if row else 0

            def full() -> None:
                if size >= BULK:
                    run("CREATE INDEX questions_vector ON farthing.questions USING hnsw (vector halfvec_cosine_ops) WHERE crowded")
                run("VACUUM ANALYZE farthing.questions")

            if size >= BULK:
                run("DROP INDEX farthing.questions_vector")
            yield Engine(
                index=PostgresQuestions(database),
                full=full,
                held_bytes=lambda: run("SELECT pg_total_relation_size('farthing.questions')"),
            )
            await database.close()
        finally:
            await server.stop()


@asynccontextmanager
async def redis(_size: int, vector_type: VectorType = "float32") -> AsyncIterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            with Redis(port=server.port) as operator:
                empty = operator.info("memory")["used_memory"]
                connections = Connections(server.url, wait_s=PATIENCE_S, connect_timeout_s=PATIENCE_S)
                yield Engine(
                    index=RedisQuestions(
                        connections, dimensions=384, vector_type=vector_type, timeout_s=PATIENCE_S, write_timeout_s=PATIENCE_S
                    ),
                    held_bytes=lambda: operator.info("memory")["used_memory"] - empty,
                )
                await connections.close()
        finally:
            server.kill()


ENGINES: dict[str, Callable[[int], AbstractAsyncContextManager[Engine]]] = {
    "inprocess": inprocess,
    "postgres": postgres,
    "redis": redis,
    "redis-float16": lambda size: redis(size, "float16"),
}
