"""What every adapter of `ports.ResponseStore` must do. Subclass the suite and give it a fixture `kept`: an empty store and its clock.

class TestMyResponses(ResponseStoreContract): ...

@pytest.fixture
async def kept() -> AsyncIterator[Kept]: ...
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec

from farthing.ports import ResponseStore
from farthing.testing.stores import Clock
from farthing.types import StoredResponse, uuid7_at

_NOON = Clock().now
_HOUR = timedelta(hours=1)
_PLENTY = {"rows_per_tenant": 1000, "bytes_per_tenant": 10**9, "total_bytes": 10**9}


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The store under test, and the clock that it tells the time by."""

    store: ResponseStore
    clock: Clock


def turn(number: int, **facts: Any) -> StoredResponse:
    """A turn that lives for an hour from noon; those of higher numbers are newer."""
    usual: dict[str, Any] = {
        "id": turn_id(number),
        "tenant": "acme",
        "payload": b"\x00\xff%d" % number,
        "created_at": _NOON,
        "expires_at": _NOON + _HOUR,
    }
    return StoredResponse(**{**usual, **facts})


def turn_id(number: int) -> UUID:
    """The id of a turn."""
    return uuid7_at(1_000_000 + number, bytes(10))


def talk(length: int, **facts: Any) -> list[StoredResponse]:
    """A conversation, oldest turn first."""
    return [turn(number, previous=turn_id(number - 1) if number else None, **facts) for number in range(length)]


class ResponseStoreContract:
    """`ports.ResponseStore`."""

    async def _chain(self, kept: Kept, number: int, tenant: str = "acme", *, most: int = 100, most_bytes: int = 10**9) -> list[UUID]:
        return [one.id for one in await kept.store.chain(tenant, turn_id(number), most=most, most_bytes=most_bytes)]

    async def test_a_conversation_comes_back_newest_first_as_it_was_stored(self, kept: Kept) -> None:
        turns = [msgspec.structs.replace(one, user_id="u\u00e9" if at % 2 else None) for at, one in enumerate(talk(5))]
        await kept.store.put(random.sample(turns, 5))
        assert await kept.store.chain("acme", turn_id(4), most=100, most_bytes=10**9) == turns[::-1]
        assert await self._chain(kept, 1) == [turn_id(1), turn_id(0)]

    async def test_two_answers_to_one_turn_share_what_came_before(self, kept: Kept) -> None:
        await kept.store.put([*talk(2), turn(8, previous=turn_id(0)), turn(9, previous=turn_id(8))])
        assert await self._chain(kept, 9) == [turn_id(9), turn_id(8), turn_id(0)]
        assert await self._chain(kept, 1) == [turn_id(1), turn_id(0)]

    async def test_an_absent_turn_has_no_chain(self, kept: Kept) -> None:
        await kept.store.put(talk(2))
        assert await self._chain(kept, 7) == []

    async def test_another_tenants_turn_is_absent_and_cannot_be_led_to(self, kept: Kept) -> None:
        await kept.store.put([turn(0, tenant="rival"), turn(1, previous=turn_id(0))])
        assert await self._chain(kept, 0) == []
        assert await self._chain(kept, 1) == [turn_id(1)]
        assert not await kept.store.delete("acme", turn_id(0))
        await kept.store.renew("acme", [turn_id(0)], _NOON + 9 * _HOUR)
        kept.clock.now = _NOON + 2 * _HOUR
        assert await self._chain(kept, 0, "rival") == []

    async def test_tenants_may_have_turns_of_one_id(self, kept: Kept) -> None:
        await kept.store.put([turn(0), turn(0, tenant="rival", payload=b"theirs")])
        assert (await kept.store.chain("rival", turn_id(0), most=9, most_bytes=99))[0].payload == b"theirs"
        assert (await kept.store.chain("acme", turn_id(0), most=9, most_bytes=99))[0].payload != b"theirs"

    async def test_a_chain_ends_at_the_bounds(self, kept: Kept) -> None:
        await kept.store.put(talk(6, payload=b"x" * 10))
        assert await self._chain(kept, 5, most=3) == [turn_id(5), turn_id(4), turn_id(3)]
        assert await self._chain(kept, 5, most=0) == []
        assert await self._chain(kept, 5, most_bytes=19) == [turn_id(5), turn_id(4)]
        assert await self._chain(kept, 5, most_bytes=20) == [turn_id(5), turn_id(4), turn_id(3)]

    async def test_turns_that_lead_to_each_other_end_too(self, kept: Kept) -> None:
        await kept.store.put([turn(0, previous=turn_id(1)), turn(1, previous=turn_id(0))])
        assert len(await self._chain(kept, 1, most=50)) == 50

    async def test_storing_again_changes_nothing(self, kept: Kept) -> None:
        await kept.store.put([turn(0)])
        await kept.store.put([turn(0, payload=b"later"), turn(1)])
        assert await kept.store.chain("acme", turn_id(0), most=9, most_bytes=99) == [turn(0)]
        assert await self._chain(kept, 1) == [turn_id(1)]

    async def test_storing_nothing_is_no_work(self, kept: Kept) -> None:
        await kept.store.put([])
        await kept.store.renew("acme", [], _NOON)

    async def test_an_expired_turn_is_absent(self, kept: Kept) -> None:
        await kept.store.put([turn(0, expires_at=_NOON + _HOUR / 2), turn(1, previous=turn_id(0))])
        kept.clock.now = _NOON + _HOUR / 2
        assert await self._chain(kept, 1) == [turn_id(1)]
        assert await self._chain(kept, 0) == []
        assert not await kept.store.delete("acme", turn_id(0))

    async def test_renewing_lengthens_lives_and_shortens_none(self, kept: Kept) -> None:
        await kept.store.put([*talk(2), turn(2, expires_at=_NOON + 5 * _HOUR)])
        await kept.store.renew("acme", [turn_id(0), turn_id(2), turn_id(7)], _NOON + 3 * _HOUR)
        kept.clock.now = _NOON + 2 * _HOUR
        assert [bool(await self._chain(kept, number)) for number in range(3)] == [True, False, True]
        await kept.store.renew("acme", [turn_id(1)], _NOON + 9 * _HOUR)
        assert await self._chain(kept, 1) == []
        kept.clock.now = _NOON + 4 * _HOUR
        assert [bool(await self._chain(kept, number)) for number in range(3)] == [False, False, True]

    async def test_deleting_takes_one_turn_and_says_so_once(self, kept: Kept) -> None:
        await kept.store.put(talk(3))
        assert await kept.store.delete("acme", turn_id(1))
        assert not await kept.store.delete("acme", turn_id(1))
        assert await self._chain(kept, 2) == [turn_id(2)]
        assert await self._chain(kept, 0) == [turn_id(0)]

    async def test_forgetting_takes_all_of_one_user_of_one_tenant(self, kept: Kept) -> None:
        mine = [turn(number, user_id="ann") for number in range(3)]
        await kept.store.put([*mine, turn(3, user_id="bob"), turn(4), turn(5, user_id="ann", tenant="rival")])
        assert await kept.store.forget("acme", "ann") == 3
        assert await kept.store.forget("acme", "ann") == 0
        assert await self._chain(kept, 0) == []
        assert [await self._chain(kept, 3), await self._chain(kept, 4), await self._chain(kept, 5, "rival")] == [
            [turn_id(number)] for number in (3, 4, 5)
        ]

    async def test_pruning_takes_the_expired_and_then_each_tenants_oldest(self, kept: Kept) -> None:
        await kept.store.put([turn(number) for number in range(6)])
        await kept.store.put([turn(number, expires_at=_NOON) for number in range(6, 9)])
        await kept.store.put([turn(number, tenant="rival") for number in range(2)])
        assert await kept.store.prune(**{**_PLENTY, "rows_per_tenant": 4}) == 5
        assert [bool(await self._chain(kept, number)) for number in range(6)] == [False] * 2 + [True] * 4
        assert await self._chain(kept, 0, "rival")
        assert await kept.store.prune(**{**_PLENTY, "rows_per_tenant": 4}) == 0

    async def test_pruning_counts_bytes_of_each_tenant_and_of_all(self, kept: Kept) -> None:
        await kept.store.put([turn(number, payload=b"x" * 100) for number in range(5)])
        await kept.store.put([turn(number, tenant="rival", payload=b"x" * 100) for number in range(5, 10)])
        assert await kept.store.prune(**{**_PLENTY, "bytes_per_tenant": 300}) == 4
        assert await kept.store.prune(**{**_PLENTY, "total_bytes": 400}) == 2
        assert [bool(await self._chain(kept, number)) for number in range(5)] == [False] * 4 + [True]
        assert [bool(await self._chain(kept, number, "rival")) for number in range(5, 10)] == [False] * 2 + [True] * 3

    async def test_pruning_handles_many(self, kept: Kept) -> None:
        await kept.store.put([turn(number) for number in range(2500)])
        assert await kept.store.prune(**{**_PLENTY, "rows_per_tenant": 10}) == 2490
        assert await self._chain(kept, 2499) == [turn_id(2499)]

    async def test_writers_of_the_same_turns_at_the_same_time_all_succeed(self, kept: Kept) -> None:
        turns = talk(40)
        await asyncio.gather(*(kept.store.put(random.sample(turns, 40)) for _ in range(8)))
        assert len(await self._chain(kept, 39)) == 40
