"""Whatever order things happen in, to workers that die, freeze and come back: no item is lost, none ends twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from farthing.inprocess.jobs import InProcessJobs
from farthing.inprocess.stores import InProcessChanges
from farthing.testing.jobs import filled
from farthing.types import Ending, EndState, Lease, Run

_LEASE_S, _WIDE = 10.0, 3
_STEPS = st.sampled_from(["claim", "claim", "wait", "extend", "done", "retry", "failed", "released", "forget", "wait", "cancel", "settle"])


class _Store(InProcessJobs):
    """Its time passes when it is told so."""

    def __init__(self) -> None:
        self.seconds = 0.0
        super().__init__(InProcessChanges(), lease_s=_LEASE_S, clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), ticks=lambda: self.seconds)


class _Play:
    """A store, its one run, the leases that somebody believes in, and what ended."""

    def __init__(self, store: _Store, run: Run) -> None:
        self.store = store
        self.run = run
        self.known: list[Lease] = []
        self.latest: dict[int, int] = {}
        self.ended: dict[int, str] = {}

    async def step(self, step: str, number: int) -> None:
        store = self.store
        if step == "claim":
            leases = await store.claim(["k"], most=1 + number % 3)
            assert not {one.id for one in leases} & set(self.ended)
            self.known += leases
            self.latest |= {one.id: one.number for one in leases}
        elif step == "wait":
            store.seconds += number
        elif step == "settle":
            await store.settle()
        elif step == "cancel" and number > 55:
            await store.cancel(self.run.id)
        elif self.known:
            await self._with(self.known[number % len(self.known)], step)

    async def _with(self, lease: Lease, step: str) -> None:
        if step == "extend":
            if await self.store.extend([lease]):
                assert lease.number == self.latest[lease.id]
        elif step == "forget":
            self.known.remove(lease)  # its worker is gone
        elif step != "cancel":
            state: EndState = step  # type: ignore[assignment]  # one of these
            held = await self.store.end([Ending(lease=lease, state=state, result=b"1" if step == "done" else None)])
            assert not held or lease.number == self.latest[lease.id]
            if held and step in ("done", "failed"):
                assert lease.id not in self.ended
                self.ended[lease.id] = step

    async def found(self) -> Run:
        found = await self.store.run(self.run.id)
        assert found is not None
        assert found.progress.total == 5
        return found

    async def finish(self) -> None:
        """Somebody does what is left."""
        for _ in range(100):
            self.store.seconds += 5000
            await self.store.end([Ending(lease=one, state="done", result=b"1") for one in await self.store.claim(["k"], most=9)])
            if await self.store.settle():
                return


async def _play(steps: list[tuple[str, int]]) -> None:
    store = _Store()
    play = _Play(store, await filled(store, [str(n) for n in range(5)], wide=_WIDE, attempts=3, backoff_s=0.001))
    for step, number in steps:
        await play.step(step, number)
        found = await play.found()
        assert found.progress.running <= _WIDE
        assert found.progress.done == list(play.ended.values()).count("done")
    await play.finish()
    found = await play.found()
    assert found.ended_at is not None
    assert found.progress.done + found.progress.failed + found.progress.cancelled == 5


@given(st.lists(st.tuples(_STEPS, st.integers(0, 60)), min_size=20, max_size=60))
def test_no_item_is_lost_and_none_ends_twice(steps: list[tuple[str, int]]) -> None:
    asyncio.run(_play(steps))
