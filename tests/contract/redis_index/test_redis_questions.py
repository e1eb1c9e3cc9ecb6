"""What only this adapter does: the engine's own expiry, several workers, what lies in the keyspace, reuse."""

import asyncio
import math
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from farthing.errors import InvalidRequest, Unavailable
from farthing.redis import index as search_index
from farthing.redis.engine import Command, Engine, Session
from farthing.redis.layout import Layout, digest
from farthing.redis.questions import RedisQuestions, open_questions
from farthing.settings import load_text
from farthing.testing.questions import DIMENSIONS, cosine, partition, question, vector
from farthing.testing.redis import RUNS_HERE, RedisServer
from farthing.testing.stores import Clock
from farthing.types import CacheScope, ServedHit, new_id, question_worth

pytestmark = pytest.mark.skipif(not RUNS_HERE, reason="there are no wheels of Redis for this machine")

_PATIENCE_S = 30.0
_SECOND = timedelta(seconds=1)
_BASE = f"{{farthing:q1:{DIMENSIONS}:f32}}"


@pytest.fixture(autouse=True)
async def _empty(engine: Engine) -> None:
    """Every test begins with an empty engine."""


@asynccontextmanager
async def worker(server: RedisServer, clock: Clock, dimensions: int = DIMENSIONS, **facts: str) -> AsyncIterator[RedisQuestions]:
    """Another worker on the same engine."""
    engine = Engine(server.url, wait_s=_PATIENCE_S, connect_timeout_s=_PATIENCE_S)
    yield RedisQuestions(engine, dimensions=dimensions, timeout_s=_PATIENCE_S, write_timeout_s=_PATIENCE_S, clock=clock, **facts)  # type: ignore[arg-type]
    await engine.close()


async def keys(engine: Engine) -> list[str]:
    (found,) = await engine.run([("KEYS", "*")], limit_s=_PATIENCE_S)
    return sorted(key.decode() for key in found)


async def found(questions: RedisQuestions, sought: bytes, tenant: str = "acme") -> list[bytes]:
    return [near.question.payload for near in await questions.search(tenant, partition(), sought, most=5)]


async def test_the_engine_itself_lets_expired_questions_go(engine: Engine, index: RedisQuestions, clock: Clock) -> None:
    one = question("one", clock, expires_at=clock.now + timedelta(milliseconds=30))
    await index.put([one])
    key = Layout("farthing", DIMENSIONS, "float32").entry(digest("acme"), one.id.bytes)
    for _ in range(1000):
        if await engine.run([("EXISTS", key)], limit_s=_PATIENCE_S) == [0]:
            break
        await asyncio.sleep(0.01)
    assert await found(index, one.vector) == []
    clock.now += _SECOND
    assert await index.size() == 0
    assert await index.prune(10) == 1
    assert await keys(engine) == []


async def test_nothing_is_left_once_all_is_forgotten_or_pruned(engine: Engine, index: RedisQuestions, clock: Clock) -> None:
    await index.put([question(f"q{n}", clock, tenant=f"t{n % 3}") for n in range(9)])
    assert [await index.forget(f"t{n}", CacheScope()) for n in range(3)] == [3, 3, 3]
    assert await keys(engine) == [f"{_BASE}:erased", f"{_BASE}:tenants"]
    clock.now += timedelta(days=8)
    assert await index.prune(10) == 0
    assert await keys(engine) == []


async def test_no_text_of_a_caller_is_part_of_a_key_and_hostile_tenants_stay_apart(
    engine: Engine, index: RedisQuestions, clock: Clock
) -> None:
    tenants = ["acme", "acme}|@p:{*", "*", f"{_BASE}:tenants", "a\r\nFLUSHALL\r\n", "\x00", "\U0001f600" * 2000, "", " ", "acme "]
    ones = [
        question(f"q{n}", clock, tenant=tenant, vector=vector("same"), user_id=tenant, tags=(tenant,)) for n, tenant in enumerate(tenants)
    ]
    await index.put(ones)
    for one in ones:
        assert await found(index, one.vector, one.tenant) == [one.payload]
        assert await index.size(one.tenant) == 1
    hexadecimal = r"[0-9a-f]{32}"
    allowed = re.compile(rf"{re.escape(_BASE)}:(e:{hexadecimal}:{hexadecimal}|t:{hexadecimal}|tenants|worth)")
    assert all(allowed.fullmatch(key) for key in await keys(engine))
    for n, one in enumerate(ones):
        assert await index.forget(one.tenant, CacheScope(tag=one.tenant, user_id=one.tenant)) == 1
        assert await index.size() == len(ones) - n - 1


async def test_text_that_is_no_unicode_is_refused_and_finds_nothing(index: RedisQuestions, clock: Clock) -> None:
    with pytest.raises(InvalidRequest):
        await index.put([question("one", clock, tenant="\ud800")])
    assert await found(index, vector("one"), "\ud800") == []
    assert await index.forget("\ud800", CacheScope(user_id="\udfff")) == 0


async def test_another_workers_queue_cannot_bring_back_what_was_forgotten_or_removed(
    shared_redis: RedisServer, index: RedisQuestions, clock: Clock
) -> None:
    async with worker(shared_redis, clock) as other:
        forgotten, removed = question("forgotten", clock, user_id="ann"), question("removed", clock, user_id="bob")
        await index.put([removed])
        clock.now += _SECOND
        assert await index.forget("acme", CacheScope(user_id="ann")) == 0
        assert await index.remove("acme", [removed.id]) == 1
        await other.put([forgotten, removed])
        assert await other.size() == 0
        late = question("late", clock, user_id="ann", created_at=clock.now + _SECOND)
        await other.put([late])
        assert await found(index, late.vector) == [late.payload]


class Interrupted(Engine):
    """Something else happens whenever a batch has been looked up and is about to be stored."""

    def __init__(self, url: str, between: Callable[[], Awaitable[object]]) -> None:
        super().__init__(url, wait_s=_PATIENCE_S, connect_timeout_s=_PATIENCE_S)
        self._between = between
        self.attempts = 0

    @asynccontextmanager
    async def session(self, *, limit_s: float) -> AsyncIterator[Session]:
        async with super().session(limit_s=limit_s) as session:
            storing = session.transaction

            async def store(commands: Sequence[Command]) -> list[object] | None:
                self.attempts += 1
                await self._between()
                return await storing(commands)

            session.transaction = store  # type: ignore[method-assign]
            yield session


async def test_what_is_forgotten_while_it_is_being_stored_is_not_there_afterwards(
    shared_redis: RedisServer, index: RedisQuestions, clock: Clock
) -> None:
    ann, bob = question("ann", clock, user_id="ann"), question("bob", clock, user_id="bob")
    engine = Interrupted(shared_redis.url, lambda: index.forget("acme", CacheScope(user_id="ann")))
    other = RedisQuestions(engine, dimensions=DIMENSIONS, timeout_s=_PATIENCE_S, write_timeout_s=_PATIENCE_S, clock=clock)
    await other.put([ann, bob])
    assert engine.attempts == 2
    assert await index.size() == 1
    assert await found(index, bob.vector) == [bob.payload]
    await engine.close()


async def test_a_batch_that_erasures_never_let_through_is_given_up(shared_redis: RedisServer, index: RedisQuestions, clock: Clock) -> None:
    async def erase() -> None:
        clock.now += _SECOND
        await index.remove("acme", [new_id()])

    engine = Interrupted(shared_redis.url, erase)
    other = RedisQuestions(engine, dimensions=DIMENSIONS, timeout_s=_PATIENCE_S, write_timeout_s=_PATIENCE_S, clock=clock)
    with pytest.raises(Unavailable, match="erasures"):
        await other.put([question("one", clock)])
    assert await index.size() == 0
    await engine.close()


async def test_hits_count_as_reuse_and_keep_a_question(engine: Engine, index: RedisQuestions, clock: Clock) -> None:
    used, idle, dear = (question(seed, clock, cost_microusd=cost) for seed, cost in (("used", 1000), ("idle", 1000), ("dear", 3500)))
    await index.put([used, idle, dear])
    hit = ServedHit(
        request_id=new_id(), question_id=used.id, answer_key=used.answer_key, tenant="acme", score=3.0, saved_microusd=1000, at=clock.now
    )
    for hits in (
        [hit, hit],
        [],
        [hit],
        [hit, msgspec.structs.replace(hit, question_id=new_id()), msgspec.structs.replace(hit, tenant="rival")],
    ):
        await index.served(hits)
    (score,) = await engine.run([("ZSCORE", f"{_BASE}:worth", digest("acme") + used.id.bytes)], limit_s=_PATIENCE_S)
    assert float(score) == pytest.approx(question_worth(1000, 0, clock.now) + math.log2(1 + 4), abs=1e-6)
    assert len(await keys(engine)) == 3 + 3
    assert await index.prune(2) == 1
    assert await found(index, idle.vector) != [idle.payload]
    assert await index.prune(1) == 1
    assert await found(index, used.vector) == [used.payload]


async def test_only_one_worker_prunes_at_a_time(shared_redis: RedisServer, index: RedisQuestions, clock: Clock) -> None:
    await index.put([question(f"q{n}", clock) for n in range(300)])
    async with worker(shared_redis, clock) as other:
        pruned = await asyncio.gather(index.prune(100), other.prune(100))
        assert sum(pruned) == 200
        assert await index.size() == 100
        assert await other.prune(99) == 1


async def test_an_embedder_of_other_dimensions_and_another_prefix_have_an_index_of_their_own(
    shared_redis: RedisServer, index: RedisQuestions, clock: Clock
) -> None:
    await index.put([question("one", clock)])
    async with worker(shared_redis, clock, dimensions=8) as small, worker(shared_redis, clock, prefix="other") as stranger:
        tiny = question("one", clock, vector=bytes(range(1, 9)))
        await small.put([tiny, question("long", clock)])
        assert [near.question for near in await small.search("acme", partition(), tiny.vector, most=5)] == [tiny]
        assert [await one.size() for one in (index, small, stranger)] == [1, 1, 0]
        assert await found(stranger, vector("one")) == []


async def test_half_precision_loses_nothing(shared_redis: RedisServer, clock: Clock) -> None:
    sought = vector("sought")
    ones = [question(f"q{n}", clock, vector=vector(f"v{n}", like=sought, noise=n / 5)) for n in range(1, 6)]
    ones.append(question("extreme", clock, vector=b"\x80\x7f\x01\xff" * (DIMENSIONS // 4)))
    async with worker(shared_redis, clock, vector_type="float16") as questions:
        await questions.put(ones)
        near = await questions.search("acme", partition(), sought, most=6)
        assert [one.question for one in near][:5] == ones[:5]
        assert {one.question.id for one in near} == {one.id for one in ones}
        for one in near:
            assert one.similarity == pytest.approx(cosine(sought, one.question.vector), abs=2e-3)
        assert all(a.similarity >= b.similarity for a, b in pairwise(near))


async def test_what_others_write_below_our_prefix_is_never_an_answer(engine: Engine, index: RedisQuestions, clock: Clock) -> None:
    layout = Layout("farthing", DIMENSIONS, "float32")
    good = question("good", clock)
    await index.put([good])
    place, packed = layout.place(digest("acme"), partition()), layout.vector(good.vector)
    assert packed is not None
    others = question("planted", clock, tenant="rival", vector=good.vector)
    planted = [b"", b"\xff\x00", layout.body(others), layout.body(question("old", clock, expires_at=clock.now))]
    for n, body in enumerate(planted):
        await engine.run([("HSET", f"{layout.entries}planted{n}", "p", place, "v", packed, "b", body)], limit_s=_PATIENCE_S)
    await engine.run([("HSET", f"{layout.entries}bare", "p", place, "v", packed)], limit_s=_PATIENCE_S)
    assert await index.search("acme", partition(), good.vector, most=1) != []
    assert await found(index, good.vector) == [good.payload]


async def test_what_an_engine_leaves_out_of_its_answer_is_read_from_the_hash(index: RedisQuestions, clock: Clock) -> None:
    one = question("one", clock)
    await index.put([one])
    key = Layout("farthing", DIMENSIONS, "float32").entry(digest("acme"), one.id.bytes).encode()
    bare = search_index.answers([2, key, [b"__v_score", b"0.25"], b"gone", None])
    whole, gone = await index._completed(bare)
    near = index._neighbour(whole)
    assert near is not None
    assert (near.question, near.similarity) == (one, 0.75)
    assert index._neighbour(gone) is None


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    making = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    subprocess.run(
        [*making.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    return cert, key


@asynccontextmanager
async def encrypted(server: RedisServer, certificate: tuple[Path, Path]) -> AsyncIterator[int]:
    """The port of a TLS endpoint in front of the server, as managed engines have one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(copy(reader, before), copy(behind, writer), return_exceptions=True)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as proxy:
        yield proxy.sockets[0].getsockname()[1]


async def test_tls_is_spoken_and_its_certificate_checked(shared_redis: RedisServer, clock: Clock, certificate: tuple[Path, Path]) -> None:
    one = question("one", clock)
    async with encrypted(shared_redis, certificate) as port:

        def opened(url: str) -> RedisQuestions:
            settings = load_text(None, {}, {"redis.url": url, "redis.connect_timeout_s": _PATIENCE_S, "redis.timeout_s": _PATIENCE_S})
            return open_questions(settings.redis, dimensions=DIMENSIONS, clock=clock)

        trusting = opened(f"rediss://localhost:{port}?ssl_ca_certs={certificate[0]}")
        await trusting.put([one])
        assert await found(trusting, one.vector) == [one.payload]
        await trusting.close()
        for url in (f"rediss://localhost:{port}", f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate[0]}"):
            wary = opened(url)
            with pytest.raises(Unavailable):
                await found(wary, one.vector)
            await wary.close()
