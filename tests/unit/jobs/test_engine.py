"""The engine on the store in process, with real time in small amounts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from farthing.errors import InvalidRequest, NotFound, Unavailable
from farthing.inprocess.jobs import InProcessJobs
from farthing.inprocess.stores import InProcessChanges
from farthing.jobs.engine import Engine
from farthing.jobs.kind import Handle, Kind
from farthing.jobs.pruning import pruning
from farthing.jobs.schedules import Schedules
from farthing.jobs.starting import MOST_PAYLOAD_BYTES, start
from farthing.settings import JobSettings
from farthing.testing.jobs import filled, soon
from farthing.testing.stores import Clock
from farthing.types import Cron, Ending, Item, Json, Lease, NewItem, NewRun, Run, new_id


def jobs(lease_s: float = 30) -> InProcessJobs:
    return InProcessJobs(InProcessChanges(), lease_s=lease_s)


@asynccontextmanager
async def running(store: InProcessJobs, handle: Handle, **facts: float) -> AsyncIterator[Engine]:
    settings = JobSettings.model_validate({"poll_s": 0.05, "drain_s": 0.05, **facts})
    engine = Engine(store, [Kind(name="k", handle=handle)], settings, dice=lambda: 0.0)
    task = asyncio.create_task(engine.run())
    yield engine
    await engine.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def ended(store: InProcessJobs, run: Run) -> Run:
    async def look() -> Run | None:
        found = await store.run(run.id)
        return found if found is not None and found.ended_at is not None else None

    found = await soon(look)
    assert found is not None
    return found


async def upper(item: Item) -> Json:
    return {"is": item.key.upper()}


async def test_items_are_done_and_their_results_kept() -> None:
    store = jobs()
    async with running(store, upper) as engine:
        run = await ended(store, await filled(store, ["a", "b"]))
        assert run.progress.done == 2
        assert [one.result for one in await store.results(run.id, limit=9)] == [{"is": "A"}, {"is": "B"}]
        assert engine.ended == {"done": 2}


async def test_no_more_are_under_way_than_the_process_may_have() -> None:
    store, under_way, most = jobs(), 0, 0

    async def busy(_: Item) -> Json:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        under_way -= 1
        return {}

    async with running(store, busy, concurrency=3):
        run = await ended(store, await filled(store, [str(n) for n in range(30)], wide=30))
    assert (run.progress.done, most) == (30, 3)


async def test_a_failure_is_retried_and_then_final() -> None:
    store, attempts = jobs(), []

    async def never(item: Item) -> Json:
        attempts.append(item.attempt)
        raise RuntimeError("no luck")

    async with running(store, never) as engine:
        run = await ended(store, await filled(store, ["a"], attempts=3, backoff_s=0.01))
    (result,) = await store.results(run.id, limit=9)
    assert attempts == [1, 2, 3]
    assert (result.state, result.error, result.attempts) == ("failed", "RuntimeError: no luck", 3)
    assert engine.ended == {"retry": 2, "failed": 1}


async def test_what_cannot_succeed_is_not_tried_again() -> None:
    store, attempts = jobs(), []

    async def never(item: Item) -> Json:
        attempts.append(item.attempt)
        raise InvalidRequest("it is no PDF")

    async with running(store, never):
        run = await ended(store, await filled(store, ["a"]))
    assert (run.progress.failed, attempts) == (1, [1])


async def test_an_item_past_its_deadline_is_ended_and_says_so() -> None:
    store = jobs()

    async def endless(_: Item) -> Json:
        await asyncio.sleep(60)
        return {}

    async with running(store, endless):
        run = await ended(store, await filled(store, ["a"], attempts=1, deadline_s=0.02))
    (result,) = await store.results(run.id, limit=9)
    assert result.error == "TimeoutError: it took longer than 0.02 s"


async def test_a_time_out_of_the_kind_is_told_apart_from_the_deadline() -> None:
    store = jobs()

    async def impatient(_: Item) -> Json:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(60)
        return {}

    async with running(store, impatient):
        run = await ended(store, await filled(store, ["a"], attempts=1))
    (result,) = await store.results(run.id, limit=9)
    assert result.error is not None
    assert "longer than" not in result.error


async def test_a_result_that_is_too_large_or_no_json_fails_the_item() -> None:
    store = jobs()

    async def huge(item: Item) -> Json:
        return {"x": "y" * 5000} if item.key == "huge" else {"x": object()}

    async with running(store, huge, max_result_bytes=1000):
        run = await ended(store, await filled(store, ["huge", "odd"], attempts=1))
    huge_one, odd = await store.results(run.id, limit=9)
    assert huge_one.error == "its result has 5008 bytes; jobs.max_result_bytes allows 1000"
    assert odd.error is not None
    assert "object" in odd.error


async def test_items_under_way_are_told_of_a_cancellation() -> None:
    store, begun, told = jobs(), asyncio.Event(), asyncio.Event()

    async def patient(_: Item) -> Json:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.set()
            raise
        return {}

    async with running(store, patient) as engine:
        run = await filled(store, ["a", "b"], wide=1)
        await asyncio.wait_for(begun.wait(), 10)
        await store.cancel(run.id)
        engine.woken("k")
        await asyncio.wait_for(told.wait(), 10)
        found = await ended(store, run)
        assert (found.state, found.progress.cancelled) == ("cancelled", 2)


async def test_whoever_lost_its_lease_stops_and_writes_nothing() -> None:
    store, begun = jobs(), asyncio.Event()

    async def patient(item: Item) -> Json:
        begun.set()
        if item.attempt == 1:
            await asyncio.sleep(60)
        return {"attempt": item.attempt}

    async with running(store, patient) as engine:
        run = await filled(store, ["a"])
        await asyncio.wait_for(begun.wait(), 10)
        (entry,) = store._runs[run.id].entries.values()
        entry.number += 1  # as if another process had leased it since
        engine.woken()

        async def lost() -> int:
            return engine.ended["lost"]

        await soon(lost)
        assert (await store.results(run.id, limit=9))[0].state == "running"


async def test_at_a_stop_what_is_under_way_may_end_and_the_rest_is_given_back() -> None:
    store, hurry = jobs(), asyncio.Event()

    async def slow(item: Item) -> Json:
        hurry.set()
        await asyncio.sleep(0.01 if item.key == "quick" else 60)
        return {}

    async with running(store, slow, drain_s=2.0) as engine:
        run = await filled(store, ["quick", "slow"])
        await asyncio.wait_for(hurry.wait(), 10)
        engine._settings = JobSettings(drain_s=0.3)
        await engine.stop()
        assert engine.under_way == 0
    quick, slow_one = await store.results(run.id, limit=9)
    assert (quick.state, slow_one.state, slow_one.attempts) == ("done", "waiting", 0)


class _Moody(InProcessJobs):
    """Is away for a while."""

    away = 0

    async def end(self, endings: Sequence[Ending]) -> set[int]:
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        return await super().end(endings)

    async def claim(self, kinds: Sequence[str], *, most: int) -> list[Lease]:
        if self.away:
            raise Unavailable("away")
        return await super().claim(kinds, most=most)


async def test_while_the_store_is_away_what_was_done_waits_and_is_not_done_again() -> None:
    store, done = _Moody(InProcessChanges(), lease_s=30), []

    async def once(item: Item) -> Json:
        done.append(item.key)
        store.away = 1
        return {}

    async with running(store, once):
        run = await ended(store, await filled(store, ["a"]))
    assert (done, run.progress.done) == (["a"], 1)


async def test_a_run_is_filled_from_what_comes_piece_by_piece() -> None:
    store = jobs()

    async def coming() -> AsyncIterator[NewItem]:
        for number in range(2500):
            yield NewItem(key=str(number))

    run = await start(store, NewRun(kind="k", tenant="acme", name="n"), coming())
    assert (run.state, run.progress.waiting) == ("running", 2500)
    again = await start(store, NewRun(kind="k", tenant="acme", name="n"), [NewItem(key="late")])
    assert again == run


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"kind": ""}, "kind must have"),
        ({"name": "a\0b"}, "name must have"),
        ({"name": "ü" * 300}, "name must have"),
        ({"wide": 0}, "wide must be"),
        ({"wide": 1001}, "wide must be"),
        ({"attempts": 0}, "attempts must be"),
        ({"deadline_s": 0}, "deadline_s must be"),
        ({"backoff_s": float("nan")}, "backoff_s must be"),
    ],
)
async def test_a_run_that_cannot_be_is_refused(facts: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await start(jobs(), NewRun(**{"kind": "k", "tenant": "", "name": "n", **facts}), [])  # type: ignore[arg-type]


_NO_JSON, _NO_TEXT = NewItem(key="a", payload={"x": object()}), NewItem(key="a", payload={"x": "\ud800"})
_TOO_MUCH = NewItem(key="a", payload={"x": "y" * MOST_PAYLOAD_BYTES})


@pytest.mark.parametrize("item", [NewItem(key=""), NewItem(key="a\0"), NewItem(key="k" * 513), _TOO_MUCH, _NO_JSON, _NO_TEXT])
async def test_an_item_that_cannot_be_is_refused_and_those_before_it_stay(item: NewItem) -> None:
    store = jobs()
    with pytest.raises(InvalidRequest):
        await start(store, NewRun(kind="k", tenant="", name="n"), [*[NewItem(key=str(n)) for n in range(1000)], item])
    (run,) = await store.runs(limit=9)
    assert (run.state, run.progress.total) == ("filling", 1000)


_HOURLY = Cron(name="hourly", expression="0 * * * *", kind="k", keys=("a", "b"))


def _schedules(store: InProcessJobs, clock: Callable[[], datetime]) -> Schedules:
    return Schedules(store, [_HOURLY], poll_s=1, clock=clock)


async def test_of_several_hosts_one_fires_and_after_a_standstill_it_fires_once() -> None:
    store, clock = jobs(), Clock()
    clock.now = datetime(2026, 1, 1, 11, 30, tzinfo=UTC)
    hosts = [_schedules(store, clock) for _ in range(3)]
    for host in hosts:
        await host.look()
    assert await store.runs(limit=9) == []
    clock.now += timedelta(hours=5, minutes=40)
    await asyncio.gather(*(host.look() for host in hosts))
    await asyncio.gather(*(host.look() for host in hosts))
    (run,) = await store.runs(limit=9)
    assert (run.name, run.progress.waiting, run.tenant) == ("hourly 2026-01-01T12:00:00+00:00", 2, "")
    assert sum(host.fired for host in hosts) == 1
    clock.now = datetime(2026, 1, 1, 18, 0, tzinfo=UTC)
    await asyncio.gather(*(host.look() for host in hosts))
    assert len(await store.runs(limit=9)) == 2


async def test_who_died_between_the_run_and_the_schedule_doubles_nothing() -> None:
    store, clock = jobs(), Clock()
    await _schedules(store, clock).look()
    clock.now += timedelta(hours=1)
    at = await store.schedule("hourly", "0 * * * *", clock.now)
    await start(store, NewRun(kind="k", tenant="", name=f"hourly {at.isoformat()}"), [NewItem(key="a")])
    await _schedules(store, clock).look()
    assert len(await store.runs(limit=9)) == 1


async def test_pruning_says_how_many_went_and_knows_its_stores() -> None:
    async def seven() -> int:
        return 7

    kind = pruning({"events": seven})
    item = Item(run=new_id(), kind="prune", tenant="", key="events", payload={}, attempt=1)
    assert await kind.handle(item) == {"deleted": 7}
    with pytest.raises(NotFound, match="no store"):
        await kind.handle(Item(run=item.run, kind="prune", tenant="", key="gone", payload={}, attempt=1))
