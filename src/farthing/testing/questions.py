"""What every adapter of `ports.QuestionIndex` and `ports.QuestionStore` must do.

Subclass a suite and give it a fixture `asked`: an empty index of vectors of `DIMENSIONS` and the clock that it tells the time by.

    class TestMyIndex(QuestionIndexContract): ...

    @pytest.fixture
    async def asked() -> AsyncIterator[Asked]: ...

The clock may stand at any time. An engine that lets entries expire by itself must not do so before the clock says so: let `Clock` begin
at the present then.
"""
# ruff: noqa: D102, PLR2004, S311  # a test's name is its docstring, literal expectations are its point, and its dice are no secrets

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec
import pytest

from farthing.ports import QuestionIndex, QuestionStore
from farthing.testing.stores import Clock
from farthing.types import CacheScope, Question, question_worth, uuid7_at

DIMENSIONS = 384
_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)

Index = TypeVar("Index", bound=QuestionIndex)


class Asked(msgspec.Struct, Generic[Index], frozen=True, kw_only=True):
    """The index under test, and the clock that it tells the time by."""

    index: Index
    clock: Clock


def vector(seed: str, *, like: bytes | None = None, noise: float = 0.25) -> bytes:
    """A vector in a direction of its own; with `like`, one near that (the cosine is about 1 / sqrt(1 + noise^2))."""
    dice = random.Random(seed)
    own = [dice.gauss(0, 1) for _ in range(DIMENSIONS)]
    if like is not None:
        base = _components(like)
        scale = noise * _length(base) / _length(own)
        own = [b + scale * o for b, o in zip(base, own, strict=True)]
    most = max(map(abs, own))
    return bytes(round(component * 127 / most) & 0xFF for component in own)


def scaled(original: bytes, factor: float) -> bytes:
    """The same direction, shorter."""
    return bytes(round(component * factor) & 0xFF for component in _components(original))


def cosine(one: bytes, other: bytes) -> float:
    """Of the angle between two vectors."""
    a, b = _components(one), _components(other)
    return sum(x * y for x, y in zip(a, b, strict=True)) / (_length(a) * _length(b))


def partition(name: str = "main") -> bytes:
    """A digest, as partitions are."""
    return sha256(name.encode()).digest()


def question(seed: str, clock: Clock, **facts: Any) -> Question:
    """A question that differs from those of other seeds, was answered now and lives for an hour."""
    usual: dict[str, Any] = {
        "id": question_id(seed),
        "tenant": "acme",
        "partition": partition(),
        "namespace": "default",
        "vector": vector(seed),
        "payload": seed.encode() + b"\x00\xff",
        "answer_key": sha256(seed.encode()).digest(),
        "request_id": uuid7_at(1_000_000, sha256(b"request " + seed.encode()).digest()[:10]),
        "cost_microusd": 1000,
        "created_at": clock.now,
        "expires_at": clock.now + _HOUR,
    }
    return Question(**{**usual, **facts})


def question_id(seed: str) -> UUID:
    """The id of `question(seed)`."""
    return uuid7_at(1_000_000, sha256(seed.encode()).digest()[:10])


async def found(asked: Asked[Any], sought: bytes, *, most: int = 5, tenant: str = "acme", where: bytes | None = None) -> list[UUID]:
    """The ids of what a search finds."""
    near = await asked.index.search(tenant, partition() if where is None else where, sought, most=most)
    return [neighbour.question.id for neighbour in near]


async def there(asked: Asked[Any], questions: Iterable[Question]) -> list[Question]:
    """Those of these questions that a search for exactly them finds."""
    return [one for one in questions if one.id in await found(asked, one.vector, tenant=one.tenant, where=one.partition, most=1)]


class QuestionIndexContract:
    """`ports.QuestionIndex`."""

    async def test_a_question_comes_back_as_it_was_put(self, asked: Asked[QuestionIndex]) -> None:
        rich = question(
            "rich",
            asked.clock,
            namespace="docs/\u00e9 {x}|@",
            user_id="it's \\ \u00fcser-1, @ann",
            tags=("b", "a,c", "\u00e9t\u00e9 {*}"),
            payload=bytes(range(256)) * 4,
            cost_microusd=10**12,
            created_at=asked.clock.now - timedelta(microseconds=1),
            expires_at=asked.clock.now + timedelta(days=365, microseconds=1),
        )
        plain = question("plain", asked.clock, payload=b"", cost_microusd=0)
        await asked.index.put([rich, plain])
        for one in (rich, plain):
            (near,) = await asked.index.search(one.tenant, one.partition, one.vector, most=1)
            assert near.question == one
            assert near.similarity == pytest.approx(1, abs=1e-3)

    async def test_the_nearest_come_first_with_their_cosines(self, asked: Asked[QuestionIndex]) -> None:
        sought = vector("sought")
        near = [
            question(f"n{n}", asked.clock, vector=vector(f"v{n}", like=sought, noise=noise)) for n, noise in enumerate((0.1, 0.4, 0.9, 2))
        ]
        far = question("far", asked.clock, vector=scaled(sought, -1))
        await asked.index.put([far, *random.Random(1).sample(near, 4)])
        answer = await asked.index.search("acme", partition(), sought, most=5)
        assert [neighbour.question.id for neighbour in answer] == [one.id for one in (*near, far)]
        for neighbour in answer:
            assert neighbour.similarity == pytest.approx(cosine(sought, neighbour.question.vector), abs=5e-3)
        assert await found(asked, sought, most=2) == [near[0].id, near[1].id]
        assert await found(asked, sought, most=0) == []

    async def test_only_the_direction_of_a_vector_counts(self, asked: Asked[QuestionIndex]) -> None:
        one = question("one", asked.clock, vector=scaled(vector("one"), 0.3))
        await asked.index.put([one])
        (near,) = await asked.index.search("acme", partition(), vector("one"), most=1)
        assert near.similarity > 0.99

    async def test_nothing_crosses_a_partition_or_a_tenant(self, asked: Asked[QuestionIndex]) -> None:
        one = question("one", asked.clock)
        other = question("other", asked.clock, partition=partition("other"), vector=one.vector)
        rival = question("rival", asked.clock, tenant="rival", vector=one.vector)
        await asked.index.put([one, other, rival])
        assert await found(asked, one.vector) == [one.id]
        assert await found(asked, one.vector, where=partition("other")) == [other.id]
        assert await found(asked, one.vector, tenant="rival") == [rival.id]
        for tenant in ("", "ACME", "acme*", "acme|rival", "acme' OR true --", "@{}()"):
            assert await found(asked, one.vector, tenant=tenant) == []
        assert await found(asked, one.vector, where=partition("nowhere")) == []
        assert await found(asked, one.vector, tenant="rival", where=partition("other")) == []

    async def test_a_question_that_is_there_is_not_replaced(self, asked: Asked[QuestionIndex]) -> None:
        one = question("one", asked.clock)
        await asked.index.put([one])
        again = question("one", asked.clock, payload=b"other", vector=vector("other"))
        await asked.index.put([again, question("two", asked.clock), again])
        (near,) = await asked.index.search("acme", partition(), one.vector, most=1)
        assert near.question == one
        assert await asked.index.size() == 2

    async def test_vectors_without_direction_or_of_the_wrong_length_are_skipped(self, asked: Asked[QuestionIndex]) -> None:
        good = question("good", asked.clock)
        bad = [b"", bytes(DIMENSIONS), b"\x01", good.vector[:-1], good.vector + b"\x01", good.vector * 2]
        await asked.index.put([*(question(f"bad{n}", asked.clock, vector=one) for n, one in enumerate(bad)), good])
        assert await asked.index.size() == 1
        assert await found(asked, good.vector) == [good.id]
        for one in bad:
            assert await found(asked, one) == []

    async def test_extreme_vectors_are_found(self, asked: Asked[QuestionIndex]) -> None:
        one_hot = bytes([1]) + bytes(DIMENSIONS - 1)
        extremes = [b"\x7f" * DIMENSIONS, b"\x80" * DIMENSIONS, one_hot, b"\x7f\x80" * (DIMENSIONS // 2)]
        questions = [question(f"extreme{n}", asked.clock, vector=one) for n, one in enumerate(extremes)]
        await asked.index.put(questions)
        assert await there(asked, questions) == questions

    async def test_an_expired_question_is_absent(self, asked: Asked[QuestionIndex]) -> None:
        short = question("short", asked.clock, expires_at=asked.clock.now + 2 * _SECOND)
        long = question("long", asked.clock, vector=vector("long", like=short.vector, noise=0.5))
        await asked.index.put([short, long])
        asked.clock.now = short.expires_at - timedelta(microseconds=1)
        assert await found(asked, short.vector) == [short.id, long.id]
        asked.clock.now = short.expires_at
        assert await found(asked, short.vector, most=1) == [long.id]
        assert await asked.index.size("acme") == 1

    async def test_expired_ones_do_not_hide_a_live_one(self, asked: Asked[QuestionIndex]) -> None:
        sought = vector("sought")
        short = [
            question(f"short{n}", asked.clock, vector=vector(f"s{n}", like=sought, noise=0.1), expires_at=asked.clock.now + _SECOND)
            for n in range(60)
        ]
        live = question("live", asked.clock, vector=vector("live", like=sought, noise=0.5))
        await asked.index.put([*short, live])
        asked.clock.now += 2 * _SECOND
        assert await found(asked, sought, most=1) == [live.id]

    async def test_removed_questions_are_gone(self, asked: Asked[QuestionIndex]) -> None:
        questions = [question(f"q{n}", asked.clock) for n in range(5)]
        rival = question("rival", asked.clock, tenant="rival")
        await asked.index.put([*questions, rival])
        assert await asked.index.remove("acme", [questions[0].id, questions[3].id, question_id("nobody"), rival.id]) == 2
        assert await there(asked, [*questions, rival]) == [questions[1], questions[2], questions[4], rival]
        assert await asked.index.remove("acme", [questions[0].id]) == 0
        assert await asked.index.remove("acme", []) == 0
        assert await asked.index.size() == 4

    @pytest.mark.parametrize(
        ("scope", "left"),
        [
            (CacheScope(), []),
            (CacheScope(namespace="docs"), ["shop", "tagged", "ann"]),
            (CacheScope(namespace="doc"), ["docs", "shop", "tagged", "ann", "both"]),
            (CacheScope(tag="v1"), ["docs", "shop", "ann"]),
            (CacheScope(tag="v"), ["docs", "shop", "tagged", "ann", "both"]),
            (CacheScope(user_id="ann"), ["docs", "shop", "tagged"]),
            (CacheScope(user_id=""), ["docs", "shop", "tagged", "ann", "both"]),
            (CacheScope(answer_key=sha256(b"shop").digest()), ["docs", "tagged", "ann", "both"]),
            (CacheScope(namespace="docs", tag="v1", user_id="ann"), ["docs", "shop", "tagged", "ann"]),
            (CacheScope(namespace="shop", tag="v1"), ["docs", "shop", "tagged", "ann", "both"]),
            (CacheScope(namespace="docs*"), ["docs", "shop", "tagged", "ann", "both"]),
        ],
        ids=lambda value: repr(msgspec.json.encode(value)) if isinstance(value, CacheScope) else None,
    )
    async def test_what_is_forgotten_goes_and_does_not_come_back(
        self, asked: Asked[QuestionIndex], scope: CacheScope, left: list[str]
    ) -> None:
        """Not even when another worker stores only afterwards what it found before."""
        facts: dict[str, dict[str, Any]] = {
            "docs": {"namespace": "docs"},
            "shop": {"namespace": "shop"},
            "tagged": {"tags": ("v1", "v2")},
            "ann": {"user_id": "ann"},
            "both": {"namespace": "docs", "tags": ("v2", "v1"), "user_id": "ann"},
        }
        early = [question(name, asked.clock, **rest) for name, rest in facts.items()]
        late = [question(f"late {one.answer_key.hex()}", asked.clock, **_same(one)) for one in early]
        fresh = [
            question(f"fresh {one.answer_key.hex()}", asked.clock, **{**_same(one), "created_at": asked.clock.now + 2 * _SECOND})
            for one in early
        ]
        rivals = [question(f"rival {name}", asked.clock, **{**rest, "tenant": "rival"}) for name, rest in facts.items()]
        await asked.index.put([*early, *rivals])
        asked.clock.now += _SECOND
        assert await asked.index.forget("acme", scope) == 5 - len(left)
        await asked.index.put(late)
        asked.clock.now += _SECOND
        await asked.index.put(fresh)
        kept = [name for name in facts if name in left]
        assert await there(asked, early) == [one for one, name in zip(early, facts, strict=True) if name in kept]
        assert await there(asked, late) == [one for one, name in zip(late, facts, strict=True) if name in kept]
        assert await there(asked, fresh) == fresh
        assert await there(asked, rivals) == rivals

    async def test_pruning_takes_the_expired_and_then_what_is_worth_least(self, asked: Asked[QuestionIndex]) -> None:
        day = asked.clock.now - 10 * _DAY
        facts: Sequence[dict[str, Any]] = (
            {"cost_microusd": 10**6, "created_at": day},  # dear and old
            {"cost_microusd": 1, "created_at": asked.clock.now},  # cheap and new
            {"cost_microusd": 1000, "created_at": asked.clock.now},
            {"cost_microusd": 1000, "created_at": asked.clock.now - _HOUR},
            {"cost_microusd": 1000, "created_at": day - 90 * _DAY},  # too old to be worth anything
        )
        live = [question(f"live{n}", asked.clock, **some) for n, some in enumerate(facts)]
        expired = [question(f"expired{n}", asked.clock, expires_at=asked.clock.now + _SECOND, cost_microusd=10**9) for n in range(3)]
        await asked.index.put([*live, *expired])
        asked.clock.now += _SECOND
        best = sorted(live, key=lambda one: question_worth(one.cost_microusd, 0, one.created_at), reverse=True)
        assert [one.payload[:5] for one in best] == [b"live0", b"live2", b"live3", b"live1", b"live4"]
        assert await asked.index.prune(3) == 5
        assert {one.id for one in await there(asked, live)} == {one.id for one in best[:3]}
        assert await asked.index.prune(3) == 0
        assert await asked.index.prune(0) == 3
        assert await asked.index.size() == 0

    async def test_sizes_are_of_one_tenant_or_of_all(self, asked: Asked[QuestionIndex]) -> None:
        assert await asked.index.size() == 0
        questions = [question(f"q{n}", asked.clock, tenant=f"t{n % 3}", partition=partition(str(n % 2))) for n in range(7)]
        await asked.index.put(questions)
        assert [await asked.index.size(tenant) for tenant in (None, "t0", "t1", "t2", "t3")] == [7, 3, 2, 2, 0]

    async def test_putting_nothing_is_no_work(self, asked: Asked[QuestionIndex]) -> None:
        await asked.index.put([])
        assert await asked.index.size() == 0
        assert await asked.index.prune(10) == 0

    async def test_concurrent_writers_of_the_same_questions_all_succeed(self, asked: Asked[QuestionIndex]) -> None:
        questions = [question(f"q{n}", asked.clock) for n in range(50)]
        await asyncio.gather(*(asked.index.put(random.sample(questions, 50)) for _ in range(8)))
        assert await asked.index.size() == 50
        assert len(await there(asked, questions)) == 50

    async def test_many_small_partitions_stay_apart(self, asked: Asked[QuestionIndex]) -> None:
        questions = [question(f"q{n}", asked.clock, partition=partition(str(n // 2)), vector=vector(f"q{n % 7}")) for n in range(600)]
        await asked.index.put(questions)
        for at in range(0, 600, 50):
            near = await found(asked, questions[at].vector, where=questions[at].partition)
            assert near == [questions[at].id, questions[at + 1].id]

    async def test_near_ones_are_found_in_a_large_partition_before_and_after_others_go(self, asked: Asked[QuestionIndex]) -> None:
        """Large enough for an approximate index, and crowded: topics of which each holds many questions that are much alike."""
        topics = [vector(f"topic{n}") for n in range(60)]
        questions = [question(f"q{n}", asked.clock, vector=vector(f"q{n}", like=topics[n % 60], noise=0.7)) for n in range(3000)]
        await asked.index.put(questions)
        sample = questions[::50]
        sought = [vector(f"again{n}", like=one.vector, noise=0.35) for n, one in enumerate(sample)]
        assert await self._hits(asked, sought, sample) >= 58
        gone = [one for n, one in enumerate(questions) if n % 50 and n % 3]
        assert await asked.index.remove("acme", [one.id for one in gone]) == len(gone)
        assert await self._hits(asked, sought, sample) >= 58
        fresh = [question(f"f{n}", asked.clock, vector=vector(f"f{n}", like=topics[n % 60], noise=0.7)) for n in range(1500)]
        await asked.index.put(fresh)
        sample += fresh[::50]
        sought += [vector(f"fresh{n}", like=one.vector, noise=0.35) for n, one in enumerate(fresh[::50])]
        assert await self._hits(asked, sought, sample) >= 87

    async def _hits(self, asked: Asked[QuestionIndex], sought: Sequence[bytes], expected: Sequence[Question]) -> int:
        """For how many of these vectors the question that each was made from comes first."""
        hits = 0
        for one, wanted in zip(sought, expected, strict=True):
            hits += await found(asked, one, most=1) == [wanted.id]
        return hits


class QuestionStoreContract(QuestionIndexContract):
    """`ports.QuestionStore`."""

    async def test_the_latest_are_the_live_ones_of_all_tenants_that_are_worth_most(self, asked: Asked[QuestionStore]) -> None:
        questions = [question(f"q{n}", asked.clock, tenant=f"t{n % 2}", cost_microusd=100 * (n + 1)) for n in range(5)]
        expired = question("expired", asked.clock, cost_microusd=10**9, expires_at=asked.clock.now + _SECOND)
        await asked.index.put([*random.sample(questions, 5), expired])
        asked.clock.now += _SECOND
        assert await asked.index.latest(10) == questions[::-1]
        assert await asked.index.latest(2) == [questions[4], questions[3]]
        assert await asked.index.latest(0) == []

    async def test_questions_are_read_by_name(self, asked: Asked[QuestionStore]) -> None:
        questions = [question(f"q{n}", asked.clock, tenant=f"t{n % 2}", expires_at=asked.clock.now + n * _SECOND) for n in range(1, 5)]
        await asked.index.put(questions)
        asked.clock.now += 2 * _SECOND
        named = await asked.index.named([*(one.id for one in questions), question_id("nobody")])
        assert sorted(named, key=lambda one: one.payload) == questions[2:]
        assert await asked.index.named([]) == []


def _components(packed: bytes) -> list[int]:
    return [byte - 256 if byte > 127 else byte for byte in packed]


def _length(components: Iterable[float]) -> float:
    return float(sum(component * component for component in components) ** 0.5)


def _same(one: Question) -> dict[str, Any]:
    """What decides whether a question is in a scope, and when it was created."""
    return {name: getattr(one, name) for name in ("namespace", "user_id", "tags", "answer_key", "created_at")}
