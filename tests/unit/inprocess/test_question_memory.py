"""What only the index in this process promises: its bounds, who goes first, and that large partitions stay findable whatever happens."""

# ruff: noqa: S311  # its dice are no secrets

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from farthing.inprocess.cells import halves
from farthing.inprocess.flushes import Flushes
from farthing.inprocess.questions import InProcessQuestions
from farthing.inprocess.slot_table import SlotTable
from farthing.types import CacheScope, Question, question_worth

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_WIDE = 48


def _question(number: int, vector: bytes, partition: str = "p", **facts: Any) -> Question:
    usual: dict[str, Any] = {
        "id": UUID(int=number + 1),
        "tenant": "acme",
        "partition": partition.encode(),
        "namespace": "default",
        "vector": vector,
        "payload": b"x" * 20,
        "answer_key": number.to_bytes(8),
        "request_id": UUID(int=number),
        "cost_microusd": 1000,
        "created_at": _NOON,
        "expires_at": _NOON + timedelta(hours=1),
    }
    return Question(**{**usual, **facts})


def _index(**bounds: Any) -> InProcessQuestions:
    return InProcessQuestions(dimensions=_WIDE, clock=lambda: _NOON, **bounds)


def _crowd(number: int, seed: int = 1, topics: int = 40) -> NDArray[np.int8]:
    """Vectors in topics, some much larger than others."""
    dice = np.random.default_rng(seed)
    centres = dice.standard_normal((topics, _WIDE))
    chosen = np.minimum(dice.geometric(0.1, number), topics) - 1
    return _packed(centres[chosen] + 0.6 * dice.standard_normal((number, _WIDE)))


def _near(vectors: NDArray[np.int8]) -> NDArray[np.int8]:
    dice = np.random.default_rng(2)
    wide = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return _packed(wide + 0.3 * dice.standard_normal(wide.shape) / _WIDE**0.5)


def _packed(vectors: NDArray[np.float64]) -> NDArray[np.int8]:
    rounded: NDArray[np.int8] = np.rint(vectors * 127 / np.abs(vectors).max(axis=1, keepdims=True)).astype(np.int8)
    return rounded


async def _recall(index: InProcessQuestions, vectors: NDArray[np.int8], alive: list[int]) -> float:
    """How often the nearest of those that are alive is found first."""
    sample = random.Random(3).sample(alive, 150)
    unit = vectors[alive] / np.linalg.norm(vectors[alive], axis=1, keepdims=True)
    sought = _near(vectors[sample])
    cosines = sought @ unit.T / np.linalg.norm(sought, axis=1, keepdims=True)
    hits = 0
    for row, best in zip(sought, cosines.max(axis=1), strict=True):
        (near,) = await index.search("acme", b"p", row.tobytes(), most=1)
        hits += near.similarity >= best - 1e-6
    return hits / len(sample)


async def test_a_large_partition_stays_findable_while_it_grows_shrinks_and_is_filled_anew() -> None:
    vectors = _crowd(16_000)
    index = _index(max_entries=20_000)
    await index.put([_question(number, row.tobytes()) for number, row in enumerate(vectors[:9000])])
    assert await _recall(index, vectors, list(range(9000))) >= 0.97
    gone = set(random.Random(1).sample(range(9000), 7500))
    assert await index.remove("acme", [UUID(int=number + 1) for number in gone]) == 7500
    alive = [number for number in range(9000) if number not in gone]
    assert await _recall(index, vectors, alive) >= 0.97
    await index.put([_question(number, vectors[number].tobytes()) for number in range(9000, 16_000)])
    alive += range(9000, 16_000)
    assert await _recall(index, vectors, alive) >= 0.97
    assert await index.size() == len(alive)
    assert {one.id.int - 1 for one in await index.latest(20_000)} == set(alive)
    for one in await index.named([UUID(int=number + 1) for number in alive[::100]]):
        assert one == _question(one.id.int - 1, vectors[one.id.int - 1].tobytes())


async def test_the_same_vector_very_often_is_no_trouble() -> None:
    """Nothing divides it in two; and all of them are expired but one."""
    vector = _crowd(1)[0].tobytes()
    index = _index(max_entries=4000)
    soon = _NOON + timedelta(microseconds=1)
    await index.put([_question(number, vector, expires_at=soon) for number in range(3000)])
    assert len(await index.search("acme", b"p", vector, most=5)) == 5
    assert await index.forget("acme", CacheScope()) == 3000
    assert await index.search("acme", b"p", vector, most=5) == []
    assert index.held_bytes == 0


def test_halves_are_never_small() -> None:
    dice = np.random.default_rng(1)
    alone = np.concatenate((np.full((99, 8), 5, np.int8), [[-5] * 8])).astype(np.int8)
    for rows in (alone, np.full((100, 8), 7, np.int8), dice.integers(-127, 128, (100, 8)).astype(np.int8)):
        second, centres = halves(rows)
        assert 12 <= second.sum() <= 88
        assert centres.any(axis=1).all()


async def test_bounds_hold_at_every_moment_and_the_dearest_stay() -> None:
    index = _index(max_entries=300, max_bytes=100_000)
    vectors = _crowd(6000)
    dice = random.Random(4)
    costs = [dice.randrange(1, 10**6) for _ in range(6000)]
    for start in range(0, 6000, 50):
        await index.put(
            [
                _question(number, vectors[number].tobytes(), "p" if number % 2 else str(number), cost_microusd=costs[number])
                for number in range(start, start + 50)
            ]
        )
        assert await index.size() <= 300
        assert index.held_bytes <= 100_000
    kept = [one.cost_microusd for one in await index.latest(1000)]
    assert len(kept) == await index.size() > 200
    assert len(set(kept) & set(sorted(costs)[-len(kept) :])) >= 0.97 * len(kept)


async def test_what_does_not_fit_at_all_leaves_the_rest_alone() -> None:
    index = _index(max_entries=10, max_bytes=4000)
    rows = _crowd(3)
    await index.put([_question(0, rows[0].tobytes(), cost_microusd=10**6)])
    await index.put([_question(1, rows[1].tobytes(), payload=b"x" * 5000, cost_microusd=1)])
    assert [one.id.int for one in await index.latest(10)] == [1]


async def test_the_expired_go_before_the_cheap() -> None:
    index = _index(max_entries=2)
    rows = _crowd(3)
    now = [_NOON]
    index._clock = lambda: now[0]
    await index.put([_question(0, rows[0].tobytes(), cost_microusd=1)])
    await index.put([_question(1, rows[1].tobytes(), cost_microusd=10**9, expires_at=_NOON + timedelta(seconds=1))])
    now[0] += timedelta(seconds=1)
    await index.put([_question(2, rows[2].tobytes())])
    assert {one.id.int for one in await index.latest(10)} == {1, 3}


async def test_reuse_saves_a_question() -> None:
    index = _index(max_entries=2)
    rows = _crowd(4)
    await index.put([_question(0, rows[0].tobytes(), cost_microusd=1000), _question(1, rows[1].tobytes(), cost_microusd=1900)])
    index.reused("acme", [UUID(int=1), UUID(int=99)])
    index.reused("rival", [UUID(int=2)] * 9)
    await index.put([_question(2, rows[2].tobytes(), cost_microusd=5000)])
    assert {one.id.int for one in await index.latest(10)} == {1, 3}


async def test_others_get_their_turn_while_much_is_put_forgotten_or_read() -> None:
    index = _index(max_entries=5000)
    questions = [_question(number, row.tobytes()) for number, row in enumerate(_crowd(4000))]
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    for work in (index.put(questions), index.latest(4000), index.forget("acme", CacheScope())):
        before = turns
        await work
        assert turns - before >= 4000 // 64 - 1
    task.cancel()


async def test_a_flush_holds_against_a_put_that_it_overtakes() -> None:
    """The put is in the middle of its batch."""
    index = _index(max_entries=5000)
    questions = [_question(number, row.tobytes()) for number, row in enumerate(_crowd(1000))]
    putting = asyncio.create_task(index.put(questions))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < await index.forget("acme", CacheScope(namespace="default")) < 1000
    await putting
    assert await index.size() == 0


async def test_a_million_partitions_of_one_cost_what_their_questions_cost() -> None:
    """Seen on a small scale: nothing is kept for a partition itself."""
    index = _index(max_entries=3000)
    rows = _crowd(3000)
    await index.put([_question(number, row.tobytes(), f"{number:032}") for number, row in enumerate(rows)])
    assert index.held_bytes / 3000 < 20 + _WIDE + 32 + 250
    assert index._large == {}
    for number in range(0, 3000, 100):
        (near,) = await index.search("acme", f"{number:032}".encode(), rows[number].tobytes(), most=3)
        assert near.question.id.int == number + 1


_OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 40), st.integers(0, 2)),
        st.tuples(st.just("remove"), st.integers(0, 40), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("prune"), st.integers(0, 30), st.just(0)),
    ),
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(operations=_OPERATIONS)
async def test_any_history_equals_a_plain_dictionary(operations: list[tuple[str, int, int]]) -> None:
    rows = _crowd(41, topics=3)
    clock = [_NOON]
    index = InProcessQuestions(dimensions=_WIDE, max_entries=25, clock=lambda: clock[0])
    plain: dict[int, Question] = {}
    for kind, number, place in operations:
        clock[0] += timedelta(milliseconds=1)
        if kind == "put":
            one = _question(
                number, rows[number].tobytes(), str(place), namespace=str(place), cost_microusd=1 << number, created_at=clock[0]
            )
            one = msgspec.structs.replace(one, expires_at=_NOON + timedelta(hours=9))
            await index.put([one])
            plain.setdefault(number, one)
            if len(plain) > 25:
                del plain[min(plain, key=lambda n: _worth(plain[n]))]
        elif kind == "remove":
            assert await index.remove("acme", [UUID(int=number + 1)]) == (plain.pop(number, None) is not None)
        elif kind == "forget":
            gone = [n for n, one in plain.items() if one.namespace == str(number)]
            assert await index.forget("acme", CacheScope(namespace=str(number))) == len(gone)
            plain = {n: one for n, one in plain.items() if n not in gone}
        else:
            best = sorted(plain, key=lambda n: _worth(plain[n]), reverse=True)[:number]
            assert await index.prune(number) == len(plain) - len(best)
            plain = {n: plain[n] for n in best}
        assert await index.size("acme") == len(plain)
    for partition in "012":
        near = await index.search("acme", partition.encode(), rows[0].tobytes(), most=50)
        assert {one.question.id: one.question for one in near} == {one.id: one for one in plain.values() if one.namespace == partition}
        assert [one.similarity for one in near] == sorted((one.similarity for one in near), reverse=True)
    await index.forget("acme", CacheScope())
    assert index.held_bytes == 0


def _worth(one: Question) -> float:
    return question_worth(one.cost_microusd, 0, one.created_at)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.integers(-(2**63), 2**63).map(lambda mark: mark & ~0xFF)), max_size=60))
def test_a_slot_table_finds_what_is_in_it(operations: list[tuple[bool, int, int]]) -> None:
    """Among hashes that collide and whose cells run into each other."""
    table = SlotTable(60)
    held: Counter[tuple[int, int]] = Counter()
    for adds, slot, mark in operations:
        if adds:
            table.add(mark, slot)
            held[mark & 0xFFFFFFFF, slot] += 1
        elif held[mark & 0xFFFFFFFF, slot]:
            table.drop(mark, slot)
            held[mark & 0xFFFFFFFF, slot] -= 1
        else:
            with pytest.raises(KeyError):
                table.drop(mark, slot)
    for _, _, mark in operations:
        assert Counter(table.find(mark)) == Counter({slot: n for (known, slot), n in held.items() if known == mark & 0xFFFFFFFF and n})


def test_flushes_beyond_the_bound_count_for_the_whole_tenant() -> None:
    flushes = Flushes(most=2)
    for n in range(3):
        flushes.add("acme", CacheScope(namespace=str(n)), _NOON + timedelta(seconds=n))
    facts: Any = {"tags": (), "user_id": None, "answer_key": b""}
    for namespace, age, covered in (("other", 0, True), ("other", 1, False), ("2", 2, True), ("1", 1, True), ("1", 2, False)):
        assert flushes.cover("acme", _NOON + timedelta(seconds=age), namespace=namespace, **facts) is covered
    assert not flushes.cover("rival", _NOON, namespace="other", **facts)
    flushes.prune(_NOON + timedelta(days=8))
    assert not flushes.cover("acme", _NOON, namespace="0", **facts)
