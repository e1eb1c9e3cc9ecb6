"""What every adapter of `ports.JobStore` must do. Subclass the suite and give it a fixture `jobbed`.

class TestMyJobs(JobStoreContract): ...

@pytest.fixture
async def jobbed() -> AsyncIterator[Jobbed]: ...    # an empty store, and the same store as another process has it
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, literal expectations are its point

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import pytest

from farthing.errors import Conflict, NotFound
from farthing.ports import Changes, JobStore
from farthing.testing.stores import Clock
from farthing.types import MOST_PAGE_BYTES, Ending, Lease, NewItem, NewRun, Run, new_id

Found = TypeVar("Found")
_NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Jobbed(msgspec.Struct, frozen=True, kw_only=True):
    """The store under test; the same store as another process has it; its news; its clock; how long it leases (seconds)."""

    store: JobStore
    other: JobStore
    changes: Changes
    clock: Clock
    lease_s: float


async def filled(store: JobStore, keys: Sequence[str], **facts: Any) -> Run:
    """A run with items of these keys."""
    run = await store.start(NewRun(**{"kind": "k", "tenant": "acme", "name": "n", **facts}))
    await asyncio.sleep(0.002)  # ids of one millisecond come in any order
    await store.add(run.id, [NewItem(key=key, payload={"of": key}) for key in keys])
    return await store.seal(run.id)


def done(lease: Lease, result: bytes = b"{}") -> Ending:
    """It went well."""
    return Ending(lease=lease, state="done", result=result)


async def soon(look: Callable[[], Awaitable[Found]], seconds: float = 20.0) -> Found:
    """The first true thing that `look` sees."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):  # noqa: ASYNC110 - another process; nothing here can tell
            await asyncio.sleep(0.01)
    return found


class JobStoreContract:
    """`ports.JobStore`."""

    async def test_a_run_goes_from_its_items_to_their_results(self, jobbed: Jobbed) -> None:
        store = jobbed.store
        run = await filled(store, ["a", "b"], wide=5, attempts=2, deadline_s=7.5, backoff_s=0.25)
        assert (run.state, run.progress.waiting, run.progress.total, run.ended_at) == ("running", 2, 2, None)
        leases = await store.claim(["k"], most=10)
        assert [lease.item.key for lease in leases] == ["a", "b"]
        item = leases[0].item
        assert (item.run, item.kind, item.tenant, item.payload, item.attempt) == (run.id, "k", "acme", {"of": "a"}, 1)
        assert (leases[0].attempts, leases[0].deadline_s, leases[0].backoff_s) == (2, 7.5, 0.25)
        assert await self._counts(store, run.id) == (0, 2, 0, 0, 0)
        failing = Ending(lease=leases[1], state="failed", error="no\0way")
        assert await store.end([done(leases[0], b'{"x":["\\u0000",1.5,null]}'), failing]) == {lease.id for lease in leases}
        jobbed.clock.now += timedelta(minutes=1)
        assert await store.settle() == 1
        ended = await store.run(run.id)
        assert ended is not None
        assert (ended.state, ended.ended_at, ended.progress.done, ended.progress.failed) == ("done", jobbed.clock.now, 1, 1)
        first, second = await store.results(run.id, limit=10)
        assert (first.key, first.state, first.attempts, first.result, first.error) == ("a", "done", 1, {"x": ["\0", 1.5, None]}, None)
        assert (second.key, second.state, second.result) == ("b", "failed", None)
        assert second.error is not None
        assert second.error.startswith("no")

    async def test_a_second_run_of_the_same_name_is_the_first(self, jobbed: Jobbed) -> None:
        first = await filled(jobbed.store, ["a"])
        again = await jobbed.other.start(NewRun(kind="k", tenant="acme", name="n", wide=99))
        assert again == first
        others = [NewRun(kind="k", tenant="other", name="n"), NewRun(kind="k2", tenant="acme", name="n")]
        assert {(await jobbed.store.start(one)).id for one in others}.isdisjoint({first.id})

    async def test_adding_again_what_is_there_adds_nothing(self, jobbed: Jobbed) -> None:
        """Whoever was interrupted while it filled a run starts again from the beginning."""
        store = jobbed.store
        run = await store.start(NewRun(kind="k", tenant="acme", name="n"))
        assert await store.add(run.id, [NewItem(key="a"), NewItem(key="b"), NewItem(key="a")]) == 2
        assert await store.add(run.id, [NewItem(key="b"), NewItem(key="c")]) == 1
        assert await store.add(run.id, [NewItem(key="a"), NewItem(key="b"), NewItem(key="c")]) == 0
        assert await store.add(run.id, []) == 0
        assert [one.key for one in await store.results(run.id, limit=10)] == ["a", "b", "c"]
        assert [lease.item.key for lease in await store.claim(["k"], most=10)] == ["a", "b", "c"]

    async def test_a_sealed_run_takes_no_more_items_and_an_unknown_one_none(self, jobbed: Jobbed) -> None:
        run = await filled(jobbed.store, [])
        with pytest.raises(Conflict):
            await jobbed.store.add(run.id, [NewItem(key="late")])
        assert (await jobbed.store.seal(run.id)).state == "running"
        nobody = new_id()
        for said in (jobbed.store.seal(nobody), jobbed.store.cancel(nobody), jobbed.store.add(nobody, [NewItem(key="a")])):
            with pytest.raises(NotFound):
                await said
        assert await jobbed.store.run(nobody) is None
        assert await jobbed.store.results(nobody, limit=1) == []

    async def test_items_are_done_while_their_run_is_still_being_filled(self, jobbed: Jobbed) -> None:
        store = jobbed.store
        run = await store.start(NewRun(kind="k", tenant="acme", name="n"))
        await store.add(run.id, [NewItem(key="a")])
        (lease,) = await store.claim(["k"], most=5)
        await store.end([done(lease)])
        assert await store.settle() == 0
        await store.add(run.id, [NewItem(key="b")])
        (lease,) = await store.claim(["k"], most=5)
        await store.end([done(lease)])
        await store.seal(run.id)
        assert await store.settle() == 1

    async def test_a_run_without_items_ends(self, jobbed: Jobbed) -> None:
        run = await filled(jobbed.store, [])
        assert await jobbed.store.settle() == 1
        assert await jobbed.other.settle() == 0
        assert await self._state(jobbed.store, run.id) == "done"

    async def test_no_item_is_leased_twice(self, jobbed: Jobbed) -> None:
        await filled(jobbed.store, [str(n) for n in range(60)], wide=60)
        claims = [store.claim(["k"], most=7) for _ in range(10) for store in (jobbed.store, jobbed.other)]
        leases = [lease for some in await asyncio.gather(*claims) for lease in some]
        assert len({lease.id for lease in leases}) == len(leases)

    async def test_no_more_are_under_way_than_the_run_is_wide_whoever_asks(self, jobbed: Jobbed) -> None:
        await filled(jobbed.store, [str(n) for n in range(20)], wide=3)
        stores = [jobbed.store, jobbed.other] * 4
        leases = [lease for some in await asyncio.gather(*(store.claim(["k"], most=5) for store in stores)) for lease in some]
        leases += await jobbed.store.claim(["k"], most=5)
        assert len(leases) == 3
        await jobbed.store.end([done(leases[0])])
        more = await soon(lambda: jobbed.other.claim(["k"], most=5))
        assert len(more) == 1

    async def test_only_kinds_that_are_known_here_are_leased(self, jobbed: Jobbed) -> None:
        await filled(jobbed.store, ["a"], kind="new")
        assert await jobbed.store.claim(["k"], most=5) == []
        assert await jobbed.store.claim([], most=5) == []
        assert await jobbed.store.claim(["new"], most=0) == []
        assert len(await jobbed.store.claim(["k", "new"], most=5)) == 1

    async def test_a_small_run_does_not_wait_for_a_large_one_that_came_first(self, jobbed: Jobbed) -> None:
        await filled(jobbed.store, [str(n) for n in range(50)], name="large", wide=50)
        (await jobbed.store.claim(["k"], most=10)).clear()
        small = await filled(jobbed.store, ["a", "b"], name="small")
        assert {lease.item.run for lease in await jobbed.store.claim(["k"], most=2)} == {small.id}

    async def test_a_lost_lease_is_leased_anew_and_its_first_holder_can_say_nothing_more(self, jobbed: Jobbed) -> None:
        run = await filled(jobbed.store, ["a"])
        (zombie,) = await jobbed.store.claim(["k"], most=1)
        (lease,) = await soon(lambda: jobbed.other.claim(["k"], most=1))
        assert (lease.item.attempt, lease.number > zombie.number) == (2, True)
        assert await jobbed.store.extend([zombie]) == {}
        assert await jobbed.store.end([done(zombie, b'"zombie"')]) == set()
        assert await jobbed.store.end([Ending(lease=zombie, state="retry")]) == set()
        assert await jobbed.other.end([done(lease, b'"alive"')]) == {lease.id}
        assert await jobbed.store.end([done(zombie, b'"zombie"')]) == set()
        (result,) = await jobbed.store.results(run.id, limit=5)
        assert (result.state, result.result, result.attempts) == ("done", "alive", 2)

    async def test_a_lease_that_is_extended_is_kept(self, jobbed: Jobbed) -> None:
        await filled(jobbed.store, ["a"])
        (lease,) = await jobbed.store.claim(["k"], most=1)
        for _ in range(8):
            await asyncio.sleep(jobbed.lease_s / 4)
            assert await jobbed.store.extend([lease]) == {lease.id: "held"}
            assert await jobbed.other.claim(["k"], most=1) == []
        assert await jobbed.store.end([done(lease)]) == {lease.id}
        assert await jobbed.store.extend([]) == {}

    async def test_an_item_that_kills_its_workers_fails_when_its_attempts_are_used_up(self, jobbed: Jobbed) -> None:
        run = await filled(jobbed.store, ["poison"], attempts=2)
        (first,) = await jobbed.store.claim(["k"], most=1)
        (second,) = await soon(lambda: jobbed.other.claim(["k"], most=1))
        assert (first.item.attempt, second.item.attempt) == (1, 2)

        async def failed() -> bool:
            assert await jobbed.store.claim(["k"], most=1) == []
            return (await self._counts(jobbed.store, run.id))[3] == 1

        await soon(failed)
        (result,) = await jobbed.store.results(run.id, limit=5)
        assert result.attempts == 2
        assert result.error is not None
        assert "worker went away" in result.error
        assert await jobbed.store.settle() == 1

    async def test_an_item_to_be_retried_waits_its_time_and_counts_its_attempts(self, jobbed: Jobbed) -> None:
        run = await filled(jobbed.store, ["a"])
        (lease,) = await jobbed.store.claim(["k"], most=1)
        assert await jobbed.store.end([Ending(lease=lease, state="retry", error="busy", delay_s=0.3)]) == {lease.id}
        (waiting,) = await jobbed.store.results(run.id, limit=5)
        assert (waiting.state, waiting.error, waiting.attempts) == ("waiting", "busy", 1)
        assert await jobbed.store.settle() == 0
        (again,) = await soon(lambda: jobbed.store.claim(["k"], most=1))
        assert again.item.attempt == 2
        await jobbed.store.end([done(again)])
        (ended,) = await jobbed.store.results(run.id, limit=5)
        assert (ended.state, ended.error, ended.attempts) == ("done", None, 2)

    async def test_a_lease_given_back_counts_no_attempt_and_is_free_at_once(self, jobbed: Jobbed) -> None:
        await filled(jobbed.store, ["a"])
        (lease,) = await jobbed.store.claim(["k"], most=1)
        assert await jobbed.store.end([Ending(lease=lease, state="released")]) == {lease.id}
        (again,) = await soon(lambda: jobbed.other.claim(["k"], most=1))
        assert (again.item.attempt, again.number) == (1, 2)
        assert await jobbed.store.end([done(lease)]) == set()

    async def test_a_cancelled_run_begins_nothing_and_tells_those_that_are_under_way(self, jobbed: Jobbed) -> None:
        store = jobbed.store
        run = await filled(store, ["a", "b", "c", "d"])
        told, finishing, retried = await store.claim(["k"], most=3)
        cancelled = await jobbed.other.cancel(run.id)
        assert (cancelled.state, cancelled.ended_at, cancelled.progress.cancelled) == ("cancelled", None, 1)
        assert await store.claim(["k"], most=5) == []
        assert await store.extend([told]) == {told.id: "cancelled"}
        await store.end([Ending(lease=told, state="cancelled"), done(finishing), Ending(lease=retried, state="retry")])
        assert await store.settle() == 1
        assert await self._counts(store, run.id) == (0, 0, 1, 0, 3)
        assert await store.cancel(run.id) == await store.run(run.id)
        assert await store.claim(["k"], most=5) == []

    async def test_a_cancelled_run_whose_worker_went_away_ends_as_well(self, jobbed: Jobbed) -> None:
        run = await filled(jobbed.store, ["a"])
        (lease,) = await jobbed.store.claim(["k"], most=1)
        await jobbed.other.cancel(run.id)
        await soon(jobbed.other.settle)
        assert await self._counts(jobbed.store, run.id) == (0, 0, 0, 0, 1)
        assert await jobbed.store.end([done(lease)]) == set()

    async def test_a_run_whose_filling_was_given_up_is_cancelled_after_a_day(self, jobbed: Jobbed) -> None:
        run = await jobbed.store.start(NewRun(kind="k", tenant="acme", name="n"))
        await jobbed.store.add(run.id, [NewItem(key="a")])
        assert await jobbed.store.settle() == 0
        jobbed.clock.now += timedelta(days=1, seconds=1)
        assert await jobbed.store.settle() == 1
        assert await self._state(jobbed.store, run.id) == "cancelled"

    async def test_runs_and_results_come_in_pages_and_as_asked_for(self, jobbed: Jobbed) -> None:
        store = jobbed.store
        ids = [(await filled(store, ["a", "b", "c"], name=str(n), tenant="ab"[n % 2], kind="kl"[n // 2])).id for n in range(4)]
        assert [run.id for run in await store.runs(limit=10)] == ids[::-1]
        assert [run.id for run in await store.runs(limit=2, before=ids[3])] == [ids[2], ids[1]]
        assert [run.id for run in await store.runs(limit=10, tenant="a")] == [ids[2], ids[0]]
        assert [run.id for run in await store.runs(limit=10, kind="l")] == [ids[3], ids[2]]
        await store.cancel(ids[1])
        assert [run.id for run in await store.runs(limit=10, state="cancelled")] == [ids[1]]
        page = await store.results(ids[0], limit=2)
        assert [one.key for one in page] == ["a", "b"]
        assert [one.key for one in await store.results(ids[0], limit=2, after=page[-1].position)] == ["c"]
        assert [one.key for one in await store.results(ids[1], limit=5, state="cancelled")] == ["a", "b", "c"]
        assert await store.results(ids[0], limit=5, state="cancelled") == []

    async def test_large_results_come_a_few_at_a_time_and_one_at_least(self, jobbed: Jobbed) -> None:
        store, large = jobbed.store, b'"%s"' % (b"x" * (MOST_PAGE_BYTES // 2))
        run = await filled(store, ["a", "b", "c", "d"])
        await store.end([done(lease, large) for lease in await store.claim(["k"], most=4)])
        first = await store.results(run.id, limit=10)
        assert [one.key for one in first] == ["a", "b"]
        assert [one.key for one in await store.results(run.id, limit=10, after=first[-1].position)] == ["c", "d"]

    async def test_a_schedule_fires_for_one_of_those_who_see_that_it_is_due(self, jobbed: Jobbed) -> None:
        store, at, following = jobbed.store, _NOON, _NOON + timedelta(hours=1)
        assert await store.schedule("nightly", "0 * * * *", at) == at
        assert await jobbed.other.schedule("nightly", "0 * * * *", following) == at
        fired = await asyncio.gather(*(one.fired("nightly", at, following) for one in (store, jobbed.other) * 3))
        assert sorted(fired) == [False] * 5 + [True]
        assert await store.schedule("nightly", "0 * * * *", at) == following
        assert await store.schedule("nightly", "30 * * * *", at) == at
        assert not await store.fired("unknown", at, following)

    async def test_what_is_forgotten_is_gone_and_cannot_be_ended(self, jobbed: Jobbed) -> None:
        store = jobbed.store
        run, other = await filled(store, ["a", "b"]), await filled(store, ["a"], tenant="other")
        under_way = await store.claim(["k"], most=1)
        assert await store.forget("acme") == 1
        assert await store.run(run.id) is None
        assert await store.results(run.id, limit=5) == []
        assert await store.end([done(lease) for lease in under_way if lease.item.run == run.id]) == set()
        left = await soon(lambda: store.claim(["k"], most=5))
        assert {lease.item.run for lease in left} == {other.id}
        assert await store.forget("acme") == 0

    async def test_old_runs_go_and_the_oldest_of_too_many(self, jobbed: Jobbed) -> None:
        store, clock = jobbed.store, jobbed.clock
        runs = []
        for number in range(4):
            runs.append(await filled(store, [], name=str(number)))
            await store.settle()
            clock.now += timedelta(hours=1)
        running = await filled(store, ["a"], name="running")
        assert await store.prune(clock.now - timedelta(hours=3, minutes=30), max_runs=10) == 1
        assert await store.prune(clock.now - timedelta(days=9), max_runs=2) == 1
        assert [run.id for run in await store.runs(limit=10)] == [running.id, runs[3].id, runs[2].id]

    async def test_there_are_news_of_items_and_of_a_cancellation(self, jobbed: Jobbed) -> None:
        run = await jobbed.store.start(NewRun(kind="k", tenant="acme", name="n"))
        heard: list[tuple[str, str]] = []
        ready = asyncio.Event()

        async def listen() -> None:
            async with aclosing(jobbed.changes.watch()) as news:  # type: ignore[type-var]  # an async generator
                async for one in news:
                    ready.set()
                    heard.append(one)

        listening = asyncio.create_task(listen())
        await asyncio.wait_for(ready.wait(), 10)
        await jobbed.store.add(run.id, [NewItem(key="a")])
        await jobbed.store.cancel(run.id)

        async def both() -> bool:
            return heard.count(("jobs", "k")) == 2

        await soon(both)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    @staticmethod
    async def _counts(store: JobStore, run: UUID) -> tuple[int, ...]:
        """Waiting, running, done, failed, cancelled."""
        found = await store.run(run)
        assert found is not None
        counts: tuple[int, ...] = msgspec.structs.astuple(found.progress)
        return counts

    @staticmethod
    async def _state(store: JobStore, run: UUID) -> str:
        found = await store.run(run)
        assert found is not None
        return found.state
