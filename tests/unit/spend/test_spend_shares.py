"""What a worker takes ahead of a key's limits: seldom a look at the file, and no more let through than without it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import RateLimited
from farthing.spend.limit_table import LimitTable, Row
from farthing.spend.limits import KeyLimits
from farthing.spend.token_bucket import level_at
from farthing.types import Limits

Found = TypeVar("Found")
KEY = UUID(int=5 << 64 | 1).bytes
WORKERS = 3


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counting(LimitTable):
    """A table that counts how often somebody looks."""

    looks = 0

    def visit(self, key: bytes, work: Callable[[Row, float], Found], *, write: bool = True) -> Found:
        self.looks += 1
        return super().visit(key, work, write=write)


class Host:
    """Workers on one folder."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.tables = [Counting(folder / "run", rows=64, columns=8, clock=self.clock) for _ in range(WORKERS)]
        self.workers = [KeyLimits(table, max_wait_s=10) for table in self.tables]

    @property
    def looks(self) -> int:
        return sum(table.looks for table in self.tables)

    def end(self) -> None:
        for table in self.tables:
            table.close()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    one = Host(tmp_path)
    yield one
    one.end()


def passes(worker: KeyLimits, limits: Limits, times: int) -> int:
    """How many of so many requests pass at this moment."""
    passed = 0
    for _ in range(times):
        with contextlib.suppress(RateLimited):
            passed += worker.enter(KEY, limits, 1.0, behind=False)
    return passed


def takes(worker: KeyLimits, limits: Limits, tokens: int) -> bool:
    try:
        worker.take_tokens(KEY, limits, tokens)
    except RateLimited:
        return False
    return True


FAR = Limits(requests_per_minute=6_000_000, tokens_per_minute=60_000_000, concurrency=10_000)


def test_far_from_its_limits_a_key_is_seldom_looked_up(host: Host) -> None:
    for worker in host.workers[:2]:
        for _ in range(1000):
            assert worker.enter(KEY, FAR, 1.0, behind=False)
            worker.take_tokens(KEY, FAR, 800)
            worker.put_tokens(KEY, FAR, 700)
            assert len(worker.quotas(KEY, FAR)) == 2
            worker.leave(KEY)
    assert host.looks <= 2 * 4


def test_what_is_taken_ahead_is_not_used_when_it_is_old(host: Host) -> None:
    worker = host.workers[0]
    for looks in range(1, 4):
        assert passes(worker, FAR, 10) == 10
        assert host.looks == looks
        host.clock.now += 0.11


def left(worker: KeyLimits, limits: Limits) -> list[int]:
    """What the headers say is left."""
    return [quota.remaining for quota in worker.quotas(KEY, limits)]


def test_headers_count_each_request_that_a_worker_let_in_by_itself(host: Host) -> None:
    worker, limits = host.workers[0], Limits(requests_per_minute=6000, tokens_per_minute=60_000_000)
    for count in range(1, 9):
        assert worker.enter(KEY, limits, 1.0, behind=False)
        assert left(worker, limits) == [6000 - count, 60_000_000]
    assert host.looks == 1


def test_headers_of_a_busy_key_are_a_tenth_of_a_second_old_at_most(host: Host) -> None:
    worker = host.workers[0]
    assert passes(worker, FAR, 1) == 1
    assert left(worker, FAR) == [5_999_999, 60_000_000]
    assert passes(worker, FAR, 50) == 50
    worker.take_tokens(KEY, FAR, 90_000)
    host.clock.now += 0.101  # in which 10,100 requests and 101,000 tokens flow in
    assert worker.enter(KEY, FAR, 1.0, behind=False)
    assert left(worker, FAR) == [5_999_999, 60_000_000]
    worker.take_tokens(KEY, FAR, 10_000_000)
    assert left(worker, FAR) == [5_999_999, 50_000_000]


@pytest.mark.parametrize(
    "limits",
    [Limits(requests_per_minute=1199), Limits(tokens_per_minute=1199), Limits(concurrency=63)],
    ids=["requests", "tokens", "places"],
)
def test_of_a_small_limit_nothing_is_taken_ahead(host: Host, limits: Limits) -> None:
    one, two = host.workers[:2]
    for _ in range(20):
        assert one.enter(KEY, limits, 1.0, behind=False)
        one.take_tokens(KEY, limits, 1)
    assert host.looks == 20
    if limits.concurrency:
        assert passes(two, limits, 63) == 43


def test_all_of_a_limit_passes_and_nothing_more_however_it_is_spread(host: Host) -> None:
    limits = Limits(requests_per_minute=6000)
    passed = sum(passes(host.workers[turn % WORKERS], limits, 70) for turn in range(100))
    for worker in host.workers:
        worker.close()
    passed += passes(host.workers[0], limits, 50)
    assert passed == 6000


Steps = list[tuple[int, float, float]]
STEPS = st.lists(st.tuples(st.integers(0, WORKERS - 1), st.floats(0, 0.3) | st.floats(0, 20), st.floats(0, 0.3)), max_size=80)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, limit=st.integers(1200, 10**9))
def test_no_window_lets_more_through_than_the_limit_and_what_flows_in_and_the_portions(
    tmp_path_factory: pytest.TempPathFactory, steps: Steps, limit: int
) -> None:
    host, limits, passed = Host(tmp_path_factory.mktemp("host")), Limits(tokens_per_minute=limit), []
    for number, gap, part in steps:
        host.clock.now += gap
        amount = max(1, int(part * limit * (0.01 if gap < 0.1 else 1)))
        if takes(host.workers[number], limits, amount):
            passed.append((host.clock.now, amount))
    host.end()
    for first, (began, _) in enumerate(passed):
        total = 0
        for at, amount in passed[first:]:
            total += amount
            assert total <= limit * (1 + (at - began) / 60 + WORKERS / 600) + 0.01


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, limit=st.integers(1200, 10**9))
def test_nobody_is_refused_who_would_pass_with_what_the_others_took_ahead(
    tmp_path_factory: pytest.TempPathFactory, steps: Steps, limit: int
) -> None:
    host, limits, level, at = Host(tmp_path_factory.mktemp("host")), Limits(tokens_per_minute=limit), 0.0, 0.0
    for number, gap, part in steps:
        host.clock.now += gap
        amount = max(1, int(part * limit * (0.01 if gap < 0.1 else 1)))
        level, at = level_at(level, at, host.clock.now, limit), host.clock.now  # as one bucket for all would have it
        if takes(host.workers[number], limits, amount):
            level -= amount
        else:
            assert level < amount + (WORKERS - 1) * limit / 600 + 0.01
    host.end()


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, WORKERS - 1), st.integers(1, 5000), st.integers(0, 9000)), max_size=60))
def test_tokens_are_neither_lost_nor_made_by_putting_them_right(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, int]]
) -> None:
    host, limits = Host(tmp_path_factory.mktemp("host")), Limits(tokens_per_minute=1_200_000)
    host.workers[0].take_tokens(KEY, limits, 600_000)
    used = 600_000
    for number, reserved, needed in steps:
        host.workers[number].take_tokens(KEY, limits, reserved)
        host.workers[number].put_tokens(KEY, limits, reserved - needed)
        used += needed
    for worker in host.workers:
        worker.close()
    assert [quota.remaining for quota in host.workers[0].quotas(KEY, limits)] == [1_200_000]  # no row is known: nothing was asked yet
    host.workers[0].put_tokens(KEY, limits, -1)
    assert [quota.remaining for quota in host.workers[0].quotas(KEY, limits)] == [1_200_000 - used - 1]
    host.end()


def test_a_worker_owes_no_more_than_a_portion(host: Host) -> None:
    one, two = host.workers[:2]
    limits = Limits(tokens_per_minute=600_000)  # portions of 1000
    one.take_tokens(KEY, limits, 1)
    one.put_tokens(KEY, limits, -1900)
    two.take_tokens(KEY, limits, 1)
    assert 598_000 - 2000 <= two.quotas(KEY, limits)[0].remaining <= 599_999
    one.put_tokens(KEY, limits, -10_000)
    two.close()
    two.put_tokens(KEY, limits, -1)
    assert two.quotas(KEY, limits)[0].remaining <= 600_000 - 11_900


def test_a_worker_that_dies_loses_no_more_than_it_took_ahead(host: Host) -> None:
    limits = Limits(requests_per_minute=6000, concurrency=640)
    assert host.workers[0].enter(KEY, limits, 1.0, behind=False)
    host.tables[0].close()  # as the kernel does when it is killed
    other, own = host.workers[1], Limits(requests_per_minute=6000)
    assert passes(other, own, 6000) == 6000 - 1 - 10
    assert other.refused["requests"] == 11


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, WORKERS - 1), st.booleans(), st.integers(1, 40), st.sampled_from([0.0, 0.05, 0.2])), max_size=60
    ),
    most=st.integers(1, 200),
)
def test_never_are_more_under_way_than_may_be(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, bool, int, float]], most: int
) -> None:
    host, limits, inside = Host(tmp_path_factory.mktemp("host")), Limits(concurrency=most), [0] * WORKERS
    for number, comes, times, gap in steps:
        host.clock.now += gap
        worker = host.workers[number]
        if comes:
            found = passes(worker, limits, times)
            ahead = (WORKERS - 1) * (most // 16)  # what the other workers may have and not use
            assert found >= min(times, most - sum(inside) - (ahead if most >= 64 else 0))
            inside[number] += found
        else:
            for _ in range(min(times, inside[number])):
                worker.leave(KEY)
                inside[number] -= 1
        assert sum(inside) <= most
    for number, worker in enumerate(host.workers):
        for _ in range(inside[number]):
            worker.leave(KEY)
        worker.close()
    assert passes(host.workers[0], limits, most + 1) == most
    host.end()


def test_places_beyond_half_of_the_limit_are_not_taken_ahead(host: Host) -> None:
    one, two = host.workers[:2]
    limits = Limits(concurrency=64)
    assert passes(one, limits, 33) == 33
    assert passes(two, limits, 40) == 31
    one.leave(KEY)
    assert two.advance(KEY, limits, 1.0)  # seen at once
    assert not one.enter(KEY, limits, 2.0, behind=False)


def test_a_limit_that_is_changed_while_requests_are_under_way_holds_at_once(host: Host) -> None:
    one, two = host.workers[:2]
    assert passes(one, FAR, 5) == 5
    less = Limits(requests_per_minute=3, tokens_per_minute=10, concurrency=6)
    assert passes(one, less, 5) == 1
    assert passes(two, Limits(concurrency=6), 5) == 0
    for _ in range(6):
        one.leave(KEY)
    assert passes(two, Limits(concurrency=6), 7) == 6


async def test_what_an_idle_worker_took_ahead_goes_back_by_itself(tmp_path: Path) -> None:
    tables = [LimitTable(tmp_path / "run", rows=64, columns=8) for _ in range(2)]
    one, two = (KeyLimits(table, max_wait_s=10) for table in tables)
    limits = Limits(tokens_per_minute=60_000_000, concurrency=6400)
    one.take_tokens(KEY, limits, 1)
    assert passes(one, limits, 1) == 1
    caring = asyncio.create_task(one.run())
    async with asyncio.timeout(10):
        while passes(two, limits, 7000) + two._shares.inside(KEY) < 2 * 6399:  # all but the one
            for _ in range(two._shares.inside(KEY)):
                two.leave(KEY)
            await asyncio.sleep(0.02)
    assert not one._shares._ahead
    one.leave(KEY)
    assert not one._shares._all
    caring.cancel()
    for table in tables:
        table.close()
