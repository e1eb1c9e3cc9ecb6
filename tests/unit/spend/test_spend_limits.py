from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from farthing.errors import RateLimited
from farthing.settings import KeyLimitSettings, LimitsSettings
from farthing.spend.limit_rules import LimitRules
from farthing.spend.limit_table import LimitTable, columns_for
from farthing.spend.limits import KeyLimits, TokenRates
from farthing.types import Limits, Principal, new_id


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def who(limits: Limits | None = None, tier: str = "free") -> Principal:
    return Principal(key_id=new_id(), tenant="t", tier=tier, limits=limits or Limits())


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Host:
    """Workers on one folder."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder, self.clock = folder, clock
        self.tables: list[LimitTable] = []

    def worker(self, *, rows: int = 256) -> KeyLimits:
        table = LimitTable(self.folder / "run", rows=rows, columns=8, clock=self.clock)
        self.tables.append(table)
        return KeyLimits(table, max_wait_s=10)


@pytest.fixture
def host(tmp_path: Path, clock: Clock) -> Iterator[Host]:
    one = Host(tmp_path, clock)
    yield one
    for table in one.tables:
        table.close()


def rpm(limit: int) -> Limits:
    return Limits(requests_per_minute=limit)


def passes(worker: KeyLimits, key: bytes, limits: Limits, times: int) -> int:
    """How many of so many requests pass at this moment."""
    passed = 0
    for _ in range(times):
        try:
            assert worker.enter(key, limits, 1.0, behind=False)
            passed += 1
        except RateLimited:
            continue
    return passed


def test_a_keys_own_limits_go_before_its_tiers_and_those_before_the_default() -> None:
    tiers = {"free": KeyLimitSettings(requests_per_minute=60), "pro": KeyLimitSettings()}
    rules = LimitRules(LimitsSettings(default=KeyLimitSettings(requests_per_minute=5, concurrency=2), tiers=tiers))
    assert rules.of(who()) == Limits(requests_per_minute=60, concurrency=2)
    assert rules.of(who(tier="pro")) == Limits(requests_per_minute=5, concurrency=2)
    assert rules.of(who(tier="unheard-of")) == Limits(requests_per_minute=5, concurrency=2)
    own = Limits(requests_per_minute=7, tokens_per_minute=9)
    assert rules.of(who(own)) == Limits(requests_per_minute=7, tokens_per_minute=9, concurrency=2)


def test_nobody_is_limited_unless_somebody_says_so() -> None:
    rules = LimitRules(LimitsSettings())
    assert rules.of(who()) is None
    assert rules.of(who(Limits(concurrency=1))) == Limits(concurrency=1)


@pytest.mark.parametrize("stored", [0, -3, 10**30])
def test_a_stored_limit_that_makes_no_sense_is_brought_to_one_that_does(host: Host, stored: int) -> None:
    limits = LimitRules(LimitsSettings()).of(who(Limits(requests_per_minute=stored, tokens_per_minute=stored, concurrency=stored)))
    assert limits is not None
    assert 1 <= (limits.requests_per_minute or 0) <= 10**9
    assert passes(host.worker(), new_id().bytes, limits, 1) == 1


@pytest.mark.parametrize("value", [0, -1, 10**9 + 1, 1.5, "many", float("nan")])
@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "concurrency"])
def test_a_limit_in_the_settings_is_a_whole_number_that_makes_sense(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        LimitsSettings.model_validate({"tiers": {"free": {name: value}}})


def test_workers_share_one_minute(host: Host, clock: Clock) -> None:
    one, two, key = host.worker(), host.worker(), new_id().bytes
    assert passes(one, key, rpm(10), 4) == 4
    assert passes(two, key, rpm(10), 20) == 6
    assert passes(one, key, rpm(10), 1) == 0
    clock.now += 12
    assert passes(one, key, rpm(10), 5) == 2
    assert passes(one, new_id().bytes, rpm(10), 20) == 10


def test_all_of_a_limit_may_come_through_one_worker(host: Host) -> None:
    one, _ = host.worker(), host.worker()
    assert passes(one, new_id().bytes, rpm(100), 100) == 100


def test_a_refusal_says_when_to_come_again_and_then_lets_in(host: Host, clock: Clock) -> None:
    worker, key = host.worker(), new_id().bytes
    assert passes(worker, key, rpm(7), 7) == 7
    with pytest.raises(RateLimited, match=r"7 requests a minute, its limit at Farthing \(not the provider's\)") as caught:
        worker.enter(key, rpm(7), 1.0, behind=False)
    assert caught.value.retry_after_s == pytest.approx(60 / 7, abs=0.003)
    clock.now += int((caught.value.retry_after_s or 0) * 1000) / 1000  # what `retry-after-ms` says
    assert passes(worker, key, rpm(7), 2) == 1
    assert worker.refused == {"requests": 2, "tokens": 0, "concurrency": 0}


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 5)), max_size=60), limit=st.integers(1, 30))
def test_however_requests_are_spread_they_pass_as_if_there_were_one_worker(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, float]], limit: int
) -> None:
    clock = Clock()
    spread, alone = (Host(tmp_path_factory.mktemp("host"), clock) for _ in range(2))
    workers, single, key = [spread.worker() for _ in range(3)], alone.worker(), new_id().bytes
    for number, gap in steps:
        clock.now += gap
        assert passes(workers[number], key, rpm(limit), 1) == passes(single, key, rpm(limit), 1)
    for table in (*spread.tables, *alone.tables):
        table.close()


def test_tokens_are_taken_before_a_call_and_put_right_after_it(host: Host, clock: Clock) -> None:
    rates = TokenRates(LimitRules(LimitsSettings()), host.worker())
    caller = who(Limits(tokens_per_minute=1000))
    limits = rates.of(caller)
    assert limits is not None
    rates.reserve(caller, limits, 800)
    with pytest.raises(RateLimited) as caught:
        rates.reserve(caller, limits, 300)
    assert caught.value.limit == "tokens"
    assert caught.value.retry_after_s == pytest.approx(6, abs=0.01)
    rates.settle(caller, limits, 800, 100)
    rates.reserve(caller, limits, 900)
    rates.settle(caller, limits, 900, 0)
    rates.reserve(caller, limits, 900)
    clock.now += 60
    rates.reserve(caller, limits, 1000)


def test_a_call_larger_than_a_minutes_tokens_passes_alone_and_is_paid_for_later(host: Host, clock: Clock) -> None:
    rates = TokenRates(LimitRules(LimitsSettings()), host.worker())
    caller = who(Limits(tokens_per_minute=600))
    limits = rates.of(caller)
    assert limits is not None
    rates.reserve(caller, limits, 100_000)
    rates.settle(caller, limits, 100_000, 50)
    rates.reserve(caller, limits, 550)
    rates.settle(caller, limits, 550, 1750)
    with pytest.raises(RateLimited) as caught:
        rates.reserve(caller, limits, 1)
    assert caught.value.retry_after_s == pytest.approx(120.1, abs=0.01)
    clock.now += 120.2
    rates.reserve(caller, limits, 1)


@pytest.mark.parametrize("lie", [-5, 0, 10**15])
def test_counts_that_lie_do_no_lasting_harm(host: Host, clock: Clock, lie: int) -> None:
    rates = TokenRates(LimitRules(LimitsSettings()), host.worker())
    caller = who(Limits(tokens_per_minute=600))
    limits = rates.of(caller)
    assert limits is not None
    rates.reserve(caller, limits, lie)
    rates.settle(caller, limits, lie, lie)
    clock.now += 3600 + 1
    rates.reserve(caller, limits, 1)


def test_no_limit_of_tokens_means_no_look_at_the_file(tmp_path: Path) -> None:
    table = LimitTable(tmp_path / "run", rows=64, columns=8)
    assert TokenRates(LimitRules(LimitsSettings()), KeyLimits(table, max_wait_s=1)).of(who()) is None
    assert not table.path.exists()


def test_concurrency_is_that_of_all_workers(host: Host) -> None:
    one, two, key, limits = host.worker(), host.worker(), new_id().bytes, Limits(concurrency=2)
    assert one.enter(key, limits, 1.0, behind=False)
    assert two.enter(key, limits, 1.0, behind=False)
    assert not one.enter(key, limits, 1.0, behind=False)
    two.leave(key)
    assert one.advance(key, limits, 1.0)
    assert not two.advance(key, limits, 1.0)


def test_who_waits_longest_in_another_worker_comes_first(host: Host, clock: Clock) -> None:
    one, two, key, limits = host.worker(), host.worker(), new_id().bytes, Limits(concurrency=1)
    assert one.enter(key, limits, clock.now, behind=False)
    early, late = clock.now + 1, clock.now + 2
    clock.now += 3
    two.line(key, early)
    one.leave(key)
    assert not one.enter(key, limits, late, behind=False)
    assert two.advance(key, limits, early)
    two.line(key, None)
    two.leave(key)
    assert one.advance(key, limits, late)
    one.leave(key)
    two.line(key, early)
    clock.now += 60  # longer than anybody may wait: who said so is not there any more
    assert one.enter(key, limits, clock.now, behind=False)


def test_a_request_that_finds_no_place_does_not_use_up_the_minute(host: Host) -> None:
    worker, key, limits = host.worker(), new_id().bytes, Limits(requests_per_minute=2, concurrency=1)
    assert worker.enter(key, limits, 1.0, behind=False)
    assert not worker.enter(key, limits, 1.0, behind=False)
    error = worker.give_up(key, limits, "none ended")
    assert (error.limit, error.retry_after_s, error.retry) == ("concurrency", 1.0, True)
    worker.leave(key)
    assert worker.enter(key, limits, 1.0, behind=False)


def test_quotas_say_what_is_left_and_when_all_is_there_again(host: Host, clock: Clock) -> None:
    worker, key, limits = host.worker(), new_id().bytes, Limits(requests_per_minute=60, tokens_per_minute=1000)
    fresh = worker.quotas(key, limits)
    assert [(quota.name, quota.remaining, quota.reset_s) for quota in fresh] == [("requests", 60, 0), ("tokens", 1000, 0)]
    worker.enter(key, limits, 1.0, behind=False)
    worker.take_tokens(key, limits, 250)
    worker.put_tokens(key, limits, -1000)
    assert [(quota.remaining, quota.reset_s) for quota in worker.quotas(key, limits)] == [(59, 1.0), (0, 75.0)]
    clock.now += 0.5
    assert worker.quotas(key, limits)[0].reset_s == 0.5
    assert worker.quotas(key, Limits(concurrency=1)) == []


def test_a_full_table_gives_the_place_of_the_key_that_was_idle_longest(host: Host, clock: Clock) -> None:
    worker = host.worker(rows=64)
    keys = [UUID(int=number + 1).bytes for number in range(64)]
    for key in keys:
        clock.now += 60
        assert passes(worker, key, rpm(1), 2) == 1
    assert passes(worker, new_id().bytes, rpm(1), 2) == 1
    assert passes(worker, keys[1], rpm(60), 1) == 1
    assert worker.uncounted == 0
    assert passes(worker, keys[-1], rpm(1), 1) == 0  # it was in use a moment ago, and nobody took its place
    rush = [new_id().bytes for _ in range(64)]
    assert [passes(worker, key, rpm(1), 2) for key in rush] == [1] * 64
    assert worker.uncounted > 0


def test_a_key_with_requests_under_way_keeps_its_place_and_without_any_left_requests_pass(host: Host) -> None:
    worker, limits = host.worker(rows=64), Limits(concurrency=1)
    busy = [new_id().bytes for _ in range(64)]
    assert all(worker.enter(key, limits, 1.0, behind=False) for key in busy)
    late = new_id().bytes
    assert worker.enter(late, limits, 1.0, behind=False)
    assert worker.uncounted == 1
    worker.leave(late)
    assert not any(worker.enter(key, limits, 1.0, behind=False) for key in busy)
    for key in busy:
        worker.leave(key)
    assert worker.enter(late, limits, 1.0, behind=False)
    assert not worker.enter(late, limits, 1.0, behind=False)


@pytest.mark.parametrize("size", [0, 1, 100, 5000])
def test_a_file_that_is_cut_off_heals(host: Host, size: int) -> None:
    one, two, key, limits = host.worker(), host.worker(), UUID(int=200).bytes, Limits(requests_per_minute=3, concurrency=2)
    assert one.enter(key, limits, 1.0, behind=False)
    os.truncate(host.tables[0].path, size)
    assert one.enter(key, limits, 1.0, behind=False)
    assert not two.enter(key, limits, 1.0, behind=False)
    assert not one.enter(key, limits, 1.0, behind=False)
    one.leave(key)
    assert two.advance(key, limits, 1.0)
    with pytest.raises(RateLimited):
        one.enter(key, limits, 1.0, behind=False)


@settings(max_examples=30, deadline=None)
@given(data=st.binary(min_size=1, max_size=4096), at=st.integers(0, 40_000))
def test_a_file_full_of_rubbish_heals(tmp_path_factory: pytest.TempPathFactory, data: bytes, at: int) -> None:
    clock = Clock()
    host = Host(tmp_path_factory.mktemp("host"), clock)
    worker, key = host.worker(), UUID(int=7 << 32 | 5).bytes
    assert passes(worker, key, rpm(5), 3) == 3
    with host.tables[0].path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    limits = Limits(requests_per_minute=5, tokens_per_minute=5, concurrency=3)
    assert 0 <= passes(worker, key, rpm(5), 6) <= 6
    assert len(worker.quotas(key, limits)) == 2
    clock.now += 61 * 60
    assert passes(worker, key, rpm(5), 6) == 5
    assert worker.enter(key, Limits(concurrency=1), clock.now, behind=False)
    host.tables[0].close()


def test_a_file_that_was_removed_is_made_anew_and_all_workers_find_it(host: Host) -> None:
    one, two, key, limits = host.worker(), host.worker(), new_id().bytes, Limits(concurrency=2)
    assert one.enter(key, limits, 1.0, behind=False)
    assert two.enter(key, limits, 1.0, behind=False)
    host.tables[0].path.unlink()
    for table in host.tables:
        table.check()
    assert one.advance(key, limits, 1.0) or two.enter(new_id().bytes, limits, 1.0, behind=False)
    two.enter(new_id().bytes, limits, 1.0, behind=False)  # brings along what it has under way
    assert not two.enter(key, limits, 1.0, behind=False)


def test_without_a_file_requests_pass_and_are_counted_as_uncounted(tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    table = LimitTable(tmp_path / "run", rows=64, columns=8, clock=clock)
    worker, key, limits = KeyLimits(table, max_wait_s=1), new_id().bytes, Limits(requests_per_minute=1, concurrency=1)
    assert [worker.enter(key, limits, 1.0, behind=False) for _ in range(3)] == [True] * 3
    for _ in range(3):
        worker.leave(key)
    assert worker.quotas(key, limits)[0].remaining == 1
    assert worker.uncounted >= 3
    assert len(caplog.records) == 1
    (tmp_path / "run").unlink()
    table._try_at = 0.0
    assert passes(worker, key, rpm(1), 2) == 1
    table.close()


def test_a_disk_that_is_full_costs_limits_and_no_answer(host: Host) -> None:
    worker, key, limits = host.worker(), new_id().bytes, Limits(requests_per_minute=2, concurrency=2)
    assert worker.enter(key, limits, 1.0, behind=False)
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, host.tables[0]._fd)
    os.close(full)
    assert worker.enter(key, limits, 1.0, behind=False)
    worker.leave(key)
    assert worker.uncounted == 1
    host.tables[0]._try_at = 0.0  # as if a second had gone by
    assert worker.enter(key, limits, 1.0, behind=False)
    assert not worker.advance(key, limits, 1.0)


def test_too_many_workers_on_one_file_are_told_so(host: Host) -> None:
    limits = Limits(concurrency=1)
    for worker in [host.worker() for _ in range(8)]:
        assert worker.enter(new_id().bytes, limits, 1.0, behind=False)
        assert worker.uncounted == 0
    ninth = host.worker()
    assert ninth.enter(new_id().bytes, limits, 1.0, behind=False)
    assert ninth.uncounted == 1


@pytest.mark.parametrize(("workers", "columns"), [(1, 8), (3, 8), (4, 16), (16, 64), (256, 1024)])
def test_there_is_room_for_the_workers_of_two_starts(workers: int, columns: int) -> None:
    assert columns_for(workers) == columns
    assert columns >= 2 * workers
