"""What every adapter of `ports.RetentionStore` must do. Subclass the suite and give it a fixture `kept`: an empty store and its clock.

class TestMyRetention(RetentionStoreContract): ...

@pytest.fixture
async def kept() -> AsyncIterator[Kept]: ...
"""
# ruff: noqa: D102, PLR2004, S311  # a test's name is its docstring, literal expectations are its point, and its dice are no secrets

from __future__ import annotations

import asyncio
import random
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from farthing.ports import RetentionStore
from farthing.testing.stores import Clock
from farthing.types import NewTranscript, RetentionPolicy, uuid7_at

_NOON = Clock().now
_HOUR = timedelta(hours=1)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The store under test, and the clock that it tells the time by."""

    store: RetentionStore
    clock: Clock


def policy(tenant: str = "acme", **facts: Any) -> RetentionPolicy:
    """Texts of an hour, set at noon."""
    return RetentionPolicy(**{"tenant": tenant, "enabled": True, "ttl_s": 3600, "set_by": uuid7_at(1, bytes(10)), "set_at": _NOON, **facts})


def transcript(number: int, **facts: Any) -> NewTranscript:
    """A text of a request that has just arrived; those of higher numbers are newer."""
    usual = {"request_id": request_id(number), "tenant": "acme", "model": "m", "source": "model", "payload": b"\x00\xff%d" % number}
    return NewTranscript(**{**usual, "arrived_ns": time.perf_counter_ns(), **facts})


def request_id(number: int) -> UUID:
    """The id of a request."""
    return uuid7_at(1_000_000 + number, bytes(10))


class RetentionStoreContract:
    """`ports.RetentionStore`."""

    async def _there(self, kept: Kept, *numbers: int) -> list[bool]:
        found = await kept.store.kept([request_id(number) for number in numbers])
        each = [await kept.store.get(request_id(number)) is not None for number in numbers]
        assert each == [request_id(number) in found for number in numbers]
        return each

    async def test_nothing_is_set_for_a_tenant_at_first(self, kept: Kept) -> None:
        assert await kept.store.policy("acme") is None
        assert (await kept.store.enabled(10))[0] == frozenset()

    async def test_a_policy_comes_back_as_it_was_set_last(self, kept: Kept) -> None:
        await kept.store.set_policy(policy())
        await kept.store.set_policy(policy("rival", enabled=False, set_by=None))
        assert await kept.store.policy("acme") == policy()
        assert await kept.store.policy("rival") == policy("rival", enabled=False, set_by=None)
        assert (await kept.store.enabled(10))[0] == {"acme"}
        await kept.store.set_policy(policy(enabled=False, ttl_s=60))
        assert await kept.store.policy("acme") == policy(enabled=False, ttl_s=60)
        assert (await kept.store.enabled(10))[0] == frozenset()

    async def test_at_most_so_many_tenants_are_told(self, kept: Kept) -> None:
        for number in range(5):
            await kept.store.set_policy(policy(f"t{number}"))
        assert len((await kept.store.enabled(3))[0]) == 3

    async def test_a_text_comes_back_as_it_was_stored(self, kept: Kept) -> None:
        await kept.store.set_policy(policy())
        kept.clock.now = _NOON + _HOUR
        assert await kept.store.put([transcript(1, user_id="u\u00e9"), transcript(2, payload=b"")]) == 2
        found = await kept.store.get(request_id(1))
        assert found is not None
        assert (found.tenant, found.user_id, found.model, found.source, found.payload) == ("acme", "u\u00e9", "m", "model", b"\x00\xff1")
        assert found.expires_at - found.at == _HOUR
        assert timedelta(0) <= kept.clock.now - found.at < timedelta(minutes=1)
        second = await kept.store.get(request_id(2))
        assert second is not None
        assert (second.user_id, second.payload) == (None, b"")

    async def test_only_tenants_that_want_it_have_texts(self, kept: Kept) -> None:
        await kept.store.set_policy(policy())
        await kept.store.set_policy(policy("off", enabled=False))
        batch = [transcript(1), transcript(2, tenant="off"), transcript(3, tenant="never-asked")]
        assert await kept.store.put(batch) == 1
        assert await self._there(kept, 1, 2, 3) == [True, False, False]

    async def test_what_was_on_its_way_when_a_tenant_turned_it_off_is_not_stored(self, kept: Kept) -> None:
        await kept.store.set_policy(policy())
        waiting = transcript(1)
        await kept.store.set_policy(policy(enabled=False))
        assert await kept.store.put([waiting]) == 0
        assert await self._there(kept, 1) == [False]

    async def test_storing_again_changes_nothing(self, kept: Kept) -> None:
        await kept.store.set_policy(policy())
        await kept.store.put([transcript(1)])
        assert await kept.store.put([transcript(1, payload=b"later"), transcript(2)]) == 1
        found = await kept.store.get(request_id(1))
        assert found is not None
        assert found.payload == b"\x00\xff1"
        assert await kept.store.put([]) == 0

    async def test_a_text_is_absent_from_its_end_on_and_then_goes(self, kept: Kept) -> None:
        await kept.store.set_policy(policy())
        await kept.store.put([transcript(1)])
        kept.clock.now = _NOON + _HOUR / 2
        await kept.store.put([transcript(2)])
        kept.clock.now = _NOON + _HOUR
        assert await self._there(kept, 1, 2) == [False, True]
        assert await kept.store.prune(100) == 1
        assert await kept.store.prune(100) == 0
        assert await self._there(kept, 2) == [True]

    async def test_a_shorter_life_counts_for_what_is_there_and_a_longer_one_does_not(self, kept: Kept) -> None:
        await kept.store.set_policy(policy())
        await kept.store.set_policy(policy("rival"))
        await kept.store.put([transcript(1), transcript(2, tenant="rival")])
        await kept.store.set_policy(policy(ttl_s=600))
        await kept.store.set_policy(policy("rival", ttl_s=7200))
        kept.clock.now = _NOON + timedelta(minutes=10)
        assert await self._there(kept, 1, 2) == [False, True]
        kept.clock.now = _NOON + _HOUR
        assert await self._there(kept, 2) == [False]

    async def test_the_oldest_go_when_there_are_too_many(self, kept: Kept) -> None:
        await kept.store.set_policy(policy())
        await kept.store.put(random.sample([transcript(number) for number in range(2500)], 2500))
        assert await kept.store.prune(2) == 2498
        assert await self._there(kept, 2497, 2498, 2499) == [False, True, True]

    async def test_forgetting_takes_all_of_one_user_of_one_tenant(self, kept: Kept) -> None:
        for tenant in ("acme", "rival"):
            await kept.store.set_policy(policy(tenant))
        mine = [transcript(number, user_id="ann") for number in range(3)]
        await kept.store.put([*mine, transcript(3, user_id="bob"), transcript(4), transcript(5, user_id="ann", tenant="rival")])
        assert await kept.store.forget("acme", "ann") == 3
        assert await kept.store.forget("acme", "ann") == 0
        assert await self._there(kept, *range(6)) == [False] * 3 + [True] * 3

    async def test_forgetting_a_tenant_takes_all_of_it(self, kept: Kept) -> None:
        for tenant in ("acme", "rival"):
            await kept.store.set_policy(policy(tenant))
        await kept.store.put([transcript(1, user_id="ann"), transcript(2), transcript(3, tenant="rival")])
        assert await kept.store.forget("acme", None) == 2
        assert await self._there(kept, 1, 2, 3) == [False, False, True]

    async def test_what_arrived_before_it_was_forgotten_is_not_stored_afterwards(self, kept: Kept) -> None:
        for tenant in ("acme", "rival"):
            await kept.store.set_policy(policy(tenant))
        late = [transcript(1, user_id="ann"), transcript(2, user_id="bob"), transcript(3), transcript(4, user_id="ann", tenant="rival")]
        await kept.store.forget("acme", "ann")
        assert await kept.store.put(late) == 3
        assert await self._there(kept, 1, 2, 3, 4) == [False, True, True, True]
        later = [transcript(5, user_id="bob"), transcript(6)]
        await kept.store.forget("acme", None)
        assert await kept.store.put(later) == 0
        kept.clock.now += timedelta(seconds=1)
        assert await kept.store.put([transcript(7, user_id="ann")]) == 1

    async def test_what_comes_after_erasures_are_forgotten_is_too_old_to_be_stored(self, kept: Kept) -> None:
        await kept.store.set_policy(policy(ttl_s=30 * 86_400))
        await kept.store.forget("acme", "ann")
        kept.clock.now = _NOON + timedelta(days=8)
        await kept.store.prune(100)
        ago = time.perf_counter_ns() - 8 * 86_400 * 10**9
        assert await kept.store.put([transcript(1, user_id="ann", arrived_ns=ago - 10**9)]) == 0

    async def test_no_batch_outruns_a_deletion(self, kept: Kept) -> None:
        """Writers that have their batches ready race with deletions; whoever wins, nothing that came before is left."""
        await kept.store.set_policy(policy())
        for start in range(0, 200, 20):
            batches = [[transcript(start + number * 4 + at, user_id="ann") for at in range(4)] for number in range(5)]
            writing = [asyncio.create_task(kept.store.put(batch)) for batch in batches]
            await asyncio.sleep(random.random() / 500)
            await kept.store.forget("acme", "ann")
            await asyncio.gather(*writing)
            assert not any(await self._there(kept, *range(start, start + 20)))
            kept.clock.now += timedelta(seconds=1)
