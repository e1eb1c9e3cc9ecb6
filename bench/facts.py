"""How fast what holds of a user is read, at a million users: `ports.FactStore.profile` on PostgreSQL against a bare SELECT by primary key.

    python bench/facts.py --users 1000000

Loads profiles of five facts by COPY, then reads those of random users: one after the other, and 16 at a time; in rounds that alternate
with the bare SELECT on one open connection. Times are of reads in this process, as a gateway's worker has them: the pool, the transaction,
the tenant's role, decoding the facts. Prints one JSON line; `aims` says whether p50 <= 1 ms and p99 <= 5 ms (one after the other).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import AsyncConnection

from farthing.facts import packed
from farthing.postgres.embedded import EmbeddedPostgres
from farthing.postgres.facts import PostgresFacts
from farthing.postgres.migrate import migrate
from farthing.postgres.pool import Database
from farthing.types import Fact, new_id

_TENANT = "acme"
_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
_VALUES: dict[str, Any] = {
    "city": "Bergen",
    "language": "Norwegian",
    "role": "data engineer",
    "prefers": "short answers with code",
    "frustrated_by": {"page": "/dashboard", "error": 500},
}
_BARE = "SELECT version, facts::text FROM farthing.profiles WHERE tenant = %s AND user_id = %s"
_AT_ONCE = 16


def profile(user: str) -> str:
    facts = [
        Fact(
            id=new_id(),
            tenant=_TENANT,
            user=user,
            key=key,
            value=value,
            confidence=0.9,
            sources=(f"app#{number}",),
            by="model:extractor",
            valid_from=_AT,
            known_from=_AT,
        )
        for number, (key, value) in enumerate(_VALUES.items())
    ]
    return packed(facts).decode()


def load(url: str, users: int) -> float:
    """Seconds. The facts of all are alike; their rows in `farthing.facts` are not read by a chat, and are left out."""
    began = time.perf_counter()
    facts = profile("user")
    with psycopg.connect(url) as connection:
        with connection.cursor().copy("COPY farthing.profiles (tenant, user_id, version, facts) FROM STDIN") as copy:
            for number in range(users):
                copy.write_row((_TENANT, f"user-{number}", number, facts))
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE farthing.profiles")
    return time.perf_counter() - began


def whoever(users: int, reads: int, seed: int) -> Iterator[str]:
    dice = random.Random(seed)  # noqa: S311 - nothing secret
    return (f"user-{dice.randrange(users)}" for _ in range(reads))


async def timed(read: Callable[[str], Awaitable[Any]], names: Iterator[str], at_once: int) -> list[float]:
    """Milliseconds of each read."""
    times: list[float] = []

    async def reader() -> None:
        for name in names:
            began = time.perf_counter()
            found = await read(name)
            times.append((time.perf_counter() - began) * 1e3)
            if found is None:
                raise AssertionError(name)

    await asyncio.gather(*(reader() for _ in range(at_once)))
    return times


def percentiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=1000)
    return {"p50_ms": round(cuts[499], 3), "p99_ms": round(cuts[989], 3), "reads": len(times)}


async def measure(url: str, users: int, reads: int, rounds: int) -> dict[str, Any]:
    database = Database(url, max_size=4)
    await database.open()
    store = PostgresFacts(database)
    bare = await AsyncConnection.connect(url, autocommit=True)

    async def plain(user: str) -> Any:
        return await (await bare.execute(_BARE, (_TENANT, user), prepare=True)).fetchone()

    async def ours(user: str) -> Any:
        found = await store.profile(_TENANT, user)
        return found if found is not None and len(found.facts) == len(_VALUES) else None

    found: dict[str, list[float]] = {"bare": [], "one_by_one": [], f"at_once_{_AT_ONCE}": []}
    try:
        for number in range(rounds + 1):
            for name, read, at_once in (("bare", plain, 1), ("one_by_one", ours, 1), (f"at_once_{_AT_ONCE}", ours, _AT_ONCE)):
                times = await timed(read, whoever(users, reads, number), at_once)
                found[name] += times if number else []  # the first round warms up
    finally:
        await bare.close()
        await database.close()
    shown: dict[str, Any] = {name: percentiles(times) for name, times in found.items()}
    one = shown["one_by_one"]
    ratio = round(one["p50_ms"] / shown["bare"]["p50_ms"], 2)
    return {**shown, "ratio_p50": ratio, "aims": {"p50_ms": one["p50_ms"] <= 1, "p99_ms": one["p99_ms"] <= 5}}


async def main(users: int, reads: int, rounds: int, work: Path) -> None:
    server = EmbeddedPostgres(work / "postgres")
    await server.start()
    try:
        await migrate(server.uri)
        took = await asyncio.to_thread(load, server.uri, users)
        shown = await measure(server.uri, users, reads, rounds)
    finally:
        await server.stop()
    print(json.dumps({"bench": "facts", "users": users, "load_s": round(took, 1), "bytes": len(profile("user")), **shown}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--reads", type=int, default=5000, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="where the database is made; a folder in /tmp unless given, which is deleted")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farthing-bench-", dir="/tmp") as folder:
        asyncio.run(main(given.users, given.reads, given.rounds, given.work or Path(folder)))
