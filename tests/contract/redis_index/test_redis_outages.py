"""What callers meet while the engine is away, frozen, new, full, or not what it should be: `Unavailable`, in time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis.exceptions as vendor

from farthing.errors import InvalidRequest, Unavailable
from farthing.redis.engine import Command, Engine
from farthing.redis.questions import RedisQuestions
from farthing.redis.translate import AWAY, TABLE, translate, translated
from farthing.testing.questions import DIMENSIONS, partition, question, vector
from farthing.testing.redis import RUNS_HERE, RedisServer
from farthing.testing.stores import Clock
from farthing.types import CacheScope, Question, ServedHit, new_id

pytestmark = pytest.mark.skipif(not RUNS_HERE, reason="there are no wheels of Redis for this machine")

_PATIENCE_S = 30.0
_HANG_S = 10.0
_INFO: Command = ("INFO", "server")


@asynccontextmanager
async def opened(server: RedisServer, clock: Clock, *, url: str | None = None, failures: int = 3) -> AsyncIterator[RedisQuestions]:
    """Questions whose searches have a tenth of a second and whose writes have half of one."""
    engine = Engine(url or server.url, failures=failures, cooldown_s=0.2, wait_s=_PATIENCE_S, connect_timeout_s=0.5)
    questions = RedisQuestions(engine, dimensions=DIMENSIONS, timeout_s=0.1, write_timeout_s=0.5, clock=clock)
    yield questions
    await questions.close()


async def _until_found(questions: RedisQuestions, sought: bytes) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                if await questions.search("acme", partition(), sought, most=1):
                    return
            except Unavailable:
                pass
            await asyncio.sleep(0.02)


async def _every_use_is_unavailable(questions: RedisQuestions, clock: Clock) -> None:
    one = question("one", clock)
    hit = ServedHit(
        request_id=new_id(), question_id=one.id, answer_key=one.answer_key, tenant="acme", score=1.0, saved_microusd=1, at=clock.now
    )
    for use in (
        lambda: questions.search("acme", partition(), one.vector, most=3),
        lambda: questions.put([one]),
        lambda: questions.remove("acme", [one.id]),
        lambda: questions.forget("acme", CacheScope()),
        lambda: questions.prune(10),
        questions.size,
        lambda: questions.served([hit]),
    ):
        with pytest.raises(Unavailable) as caught:
            async with asyncio.timeout(_HANG_S):
                await use()
        assert "127.0.0.1" not in caught.value.message


async def test_an_engine_that_is_down_is_unavailable_and_one_that_is_back_is_used_again(own_redis: RedisServer, clock: Clock) -> None:
    one = question("one", clock)
    async with opened(own_redis, clock) as questions:
        await questions.put([one])
        assert await questions.search("acme", partition(), one.vector, most=1)
        own_redis.kill()
        await _every_use_is_unavailable(questions, clock)
        own_redis.start()
        again = question("again", clock)
        await _until_stored(questions, [again])
        await _until_found(questions, again.vector)


async def _until_stored(questions: RedisQuestions, some: list[Question]) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                await questions.put(some)
            except Unavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def test_a_frozen_engine_is_unavailable_within_the_deadline_and_works_once_it_goes_on(own_redis: RedisServer, clock: Clock) -> None:
    one = question("one", clock)
    async with opened(own_redis, clock, failures=10**6) as questions:
        await questions.put([one])
        own_redis.freeze()
        try:
            await _every_use_is_unavailable(questions, clock)
        finally:
            own_redis.thaw()
        await _until_found(questions, one.vector)


async def test_searches_that_were_cut_short_never_get_each_others_answers(own_redis: RedisServer, clock: Clock) -> None:
    ones = [question(f"q{n}", clock) for n in range(20)]
    async with opened(own_redis, clock, failures=10**6) as questions:
        await questions.put(ones)

        async def ask(n: int) -> None:
            try:
                async with asyncio.timeout(0.0005 * (n % 8)):
                    (near,) = await questions.search("acme", partition(), ones[n % 20].vector, most=1)
            except (TimeoutError, Unavailable):
                return
            assert near.question.id == ones[n % 20].id

        for _ in range(5):
            await asyncio.gather(*(ask(n) for n in range(100)))
        own_redis.freeze()
        frozen = asyncio.gather(*(ask(n) for n in range(8)))
        await asyncio.sleep(0.05)
        own_redis.thaw()
        await frozen
        for one in ones:
            await _until_found(questions, one.vector)
            (near,) = await questions.search("acme", partition(), one.vector, most=1)
            assert near.question.id == one.id


async def test_after_some_failures_uses_fail_without_trying_until_one_succeeds(own_redis: RedisServer) -> None:
    now = 0.0
    engine = Engine(own_redis.url, failures=2, cooldown_s=5.0, connect_timeout_s=0.1, clock=lambda: now)
    own_redis.freeze()
    for _ in range(2):
        with pytest.raises(Unavailable, match="TimeoutError"):
            await engine.run([_INFO], limit_s=0.05)
    own_redis.thaw()
    with pytest.raises(Unavailable, match="away") as caught:
        await engine.run([_INFO], limit_s=_PATIENCE_S)
    assert caught.value.retry_after_s == 5.0
    now = 5.0
    assert await engine.run([_INFO], limit_s=_PATIENCE_S)
    await engine.close()


async def test_callers_with_deadlines_of_their_own_teach_the_breaker_too(own_redis: RedisServer) -> None:
    engine = Engine(own_redis.url, failures=2, cooldown_s=_PATIENCE_S)
    for _ in range(3):
        running = asyncio.create_task(engine.run([_INFO], limit_s=_PATIENCE_S))
        await asyncio.sleep(0)
        running.cancel()  # at once: that says nothing about the engine
        with pytest.raises(asyncio.CancelledError):
            await running
    assert await engine.run([_INFO], limit_s=_PATIENCE_S)
    own_redis.freeze()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.08):
                await engine.run([_INFO], limit_s=0.1)
    with pytest.raises(Unavailable, match="away"):
        await engine.run([_INFO], limit_s=0.1)
    await engine.close()


async def test_a_busy_pool_refuses_without_opening_the_breaker(own_redis: RedisServer) -> None:
    engine = Engine(own_redis.url, pool_size=1, wait_s=0.02, failures=1)
    async with engine.session(limit_s=_PATIENCE_S) as session:
        for _ in range(3):
            with pytest.raises(Unavailable, match="All 1 connections"):
                await engine.run([_INFO], limit_s=_PATIENCE_S)
        assert await session.run([_INFO])
    assert await engine.run([_INFO], limit_s=_PATIENCE_S)
    await engine.close()


async def test_an_index_that_was_lost_is_made_again_over_what_is_there(own_redis: RedisServer, clock: Clock) -> None:
    one = question("one", clock)
    async with opened(own_redis, clock) as questions:
        await questions.put([one])
        operator = Engine(own_redis.url)
        await operator.run([("FT.DROPINDEX", f"{{farthing:q1:{DIMENSIONS}:f32}}")], limit_s=_PATIENCE_S)
        await operator.close()
        await _until_found(questions, one.vector)
        assert await questions.size("acme") == 1


async def test_a_cluster_of_one_shard_serves(tmp_path: Path, clock: Clock) -> None:
    """As MemoryDB is, and ElastiCache may be."""
    server = RedisServer(tmp_path / "cluster", "--cluster-enabled", "yes")
    server.start()
    try:
        operator = Engine(server.url)
        await operator.run([("CLUSTER", "ADDSLOTSRANGE", 0, 16383)], limit_s=_PATIENCE_S)
        ones = [question(f"q{n}", clock, tenant=f"t{n % 2}", user_id="ann" if n == 4 else None) for n in range(6)]
        async with opened(server, clock, failures=10**6) as questions:
            await _until_stored(questions, ones)
            for one in ones:
                (near,) = await questions.search(one.tenant, partition(), one.vector, most=1)
                assert near.question == one
            hit = ServedHit(
                request_id=new_id(), question_id=ones[2].id, answer_key=b"", tenant="t0", score=1.0, saved_microusd=1, at=clock.now
            )
            await questions.served([hit])
            assert await questions.remove("t1", [ones[1].id]) == 1
            assert await questions.forget("t0", CacheScope(user_id="ann")) == 1
            assert await questions.size() == 4
            assert await questions.prune(1) == 3
            assert await questions.search("t0", partition(), ones[2].vector, most=1)
        await operator.close()
    finally:
        server.kill()


async def test_a_primary_that_became_a_replica_is_unavailable_until_it_is_one_again(own_redis: RedisServer, clock: Clock) -> None:
    operator = Engine(own_redis.url)
    async with opened(own_redis, clock) as questions:
        await questions.put([question("one", clock)])
        await operator.run([("REPLICAOF", "127.0.0.1", 1)], limit_s=_PATIENCE_S)
        with pytest.raises(Unavailable, match="ReadOnly"):
            await questions.put([question("other", clock)])
        await operator.run([("REPLICAOF", "NO", "ONE")], limit_s=_PATIENCE_S)
        await questions.put([question("other", clock)])
        assert await questions.size() == 2
    await operator.close()


async def test_an_engine_without_vector_search_is_unavailable(tmp_path: Path, clock: Clock) -> None:
    server = RedisServer(tmp_path / "plain", search=False)
    server.start()
    try:
        async with opened(server, clock, failures=10**6) as questions:
            with pytest.raises(Unavailable):
                await questions.search("acme", partition(), vector("any"), most=1)
            with pytest.raises(Unavailable):
                await questions.put([question("one", clock)])
    finally:
        server.kill()


async def test_an_engine_that_may_evict_any_key_is_refused(own_redis: RedisServer, clock: Clock) -> None:
    operator = Engine(own_redis.url)
    async with opened(own_redis, clock) as questions:
        await operator.run([("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")], limit_s=_PATIENCE_S)
        with pytest.raises(Unavailable, match="evict any key"):
            await questions.put([question("one", clock)])
        await operator.run([("CONFIG", "SET", "maxmemory-policy", "volatile-lru")], limit_s=_PATIENCE_S)
        await questions.put([question("one", clock)])
        assert await questions.size() == 1
    await operator.close()


async def test_an_engine_that_is_full_takes_nothing_or_all_and_still_answers_and_deletes(own_redis: RedisServer, clock: Clock) -> None:
    one, other = question("one", clock), question("other", clock)
    operator = Engine(own_redis.url)
    async with opened(own_redis, clock) as questions:
        await questions.put([one])
        await operator.run([("CONFIG", "SET", "maxmemory", "1mb")], limit_s=_PATIENCE_S)
        with pytest.raises(Unavailable, match="OutOfMemory"):
            await questions.put([other])
        assert await questions.size() == 1
        await operator.run([("CONFIG", "SET", "maxmemory", "0")], limit_s=_PATIENCE_S)
        await questions.put([other])
        assert await questions.size() == 2
        assert await questions.search("acme", partition(), one.vector, most=1)
    await operator.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[RedisServer]:
    # As docs/redis.md gives them.
    rights = "resetkeys ~{farthing:* resetchannels -@all +@read +@write +@transaction +@connection +ft.search +ft.create -@dangerous +info"
    server = RedisServer(tmp_path / "guarded", "--requirepass", "secret", "--user", "cache", "on", ">p@ss/w:rd", *rights.split())
    server.start()
    yield server
    server.kill()


async def test_a_user_with_few_rights_and_a_password_that_needs_quoting_is_enough(guarded: RedisServer, clock: Clock) -> None:
    one = question("one", clock)
    url = f"redis://cache:p%40ss%2Fw%3Ard@127.0.0.1:{guarded.port}"
    async with opened(guarded, clock, url=url) as questions:
        await questions.put([one])
        await _until_found(questions, one.vector)
        assert await questions.prune(0) == 1
        assert await questions.forget("acme", CacheScope()) == 0


@pytest.mark.parametrize("user", ["", "cache:wrong@", ":wrong@", "nobody:secret@"])
async def test_a_wrong_password_is_unavailable(guarded: RedisServer, clock: Clock, user: str) -> None:
    async with opened(guarded, clock, url=f"redis://{user}127.0.0.1:{guarded.port}", failures=10**6) as questions:
        with pytest.raises(Unavailable) as caught:
            await questions.search("acme", partition(), vector("any"), most=1)
        assert "wrong" not in caught.value.message


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"*1000000\r\n", b"+OK\r\n" * 3 + b"\xff\r\n", b":1\r\n" * 9])
async def test_what_does_not_speak_the_protocol_is_unavailable(own_redis: RedisServer, clock: Clock, reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as stranger:
        port = stranger.sockets[0].getsockname()[1]
        async with opened(own_redis, clock, url=f"redis://127.0.0.1:{port}", failures=10**6) as questions:
            with pytest.raises(Unavailable):
                await questions.put([question("one", clock)])


def test_every_error_of_the_driver_is_in_the_table() -> None:
    kinds = {kind for kind in vars(vendor).values() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert {vendor.ConnectionError, vendor.WatchError, vendor.MovedError, vendor.MaxConnectionsError} <= kinds
    for kind in kinds:
        assert any(base in TABLE for base in kind.__mro__), kind


def test_only_what_can_never_be_sent_is_the_requests_fault() -> None:
    assert type(translate(vendor.DataError("x"))) is InvalidRequest
    kinds = set(TABLE) - {vendor.DataError}
    assert {type(translate(kind("x"))) for kind in kinds} == {Unavailable}
    assert set(AWAY) <= kinds
    with pytest.raises(InvalidRequest), translated():
        "\ud800".encode()
