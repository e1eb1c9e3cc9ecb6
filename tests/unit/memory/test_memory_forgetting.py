"""Forgetting: every place is asked, whatever befalls the others, and the receipt says what came of it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from farthing.errors import Unavailable
from farthing.facts import Most
from farthing.inprocess.facts import InProcessFacts
from farthing.inprocess.receipts import InProcessReceipts
from farthing.inprocess.stores import InProcessChanges
from farthing.memory.forgetting import Forgetting
from farthing.testing.facts import Minded, fact
from farthing.testing.stores import Clock
from farthing.types import Receipt


class Place:
    """Holds things of users, and is away at times."""

    def __init__(self, *users: str) -> None:
        self.users = list(users)
        self.away = False
        self.slow = False

    async def forget(self, tenant: str, user_id: str | None) -> int:
        del tenant
        if self.away:
            raise Unavailable("away")
        if self.slow:
            await asyncio.sleep(60)
        gone = [user for user in self.users if user_id in {None, user}]
        self.users = [user for user in self.users if user not in gone]
        return len(gone)


class NoReceipts(InProcessReceipts):
    """Cannot keep any."""

    async def add(self, receipt: Receipt) -> None:
        del receipt
        raise Unavailable("away")


def forgetting(places: dict[str, Place], receipts: InProcessReceipts | None = None) -> Forgetting:
    return Forgetting(places, receipts or InProcessReceipts(), timeout_s=0.05, clock=Clock())


async def test_each_place_is_asked_and_counted() -> None:
    places = {"facts": Place("ann", "bob", "ann"), "events": Place("bob"), "cache": Place("ann", "cy")}
    made = forgetting(places)
    receipt = await made.forget("acme", "ann", by="key")
    assert (receipt.complete, receipt.places) == (True, {"facts": 2, "events": 0, "cache": 1})
    assert await made.receipts("acme", "ann", limit=9) == [receipt]
    assert await made.receipts("acme", "bob", limit=9) == await made.receipts("rival", "ann", limit=9) == []
    everywhere = await made.forget("acme", None, by="key")
    assert everywhere.places == {"facts": 1, "events": 1, "cache": 1}
    assert await made.receipts("acme", None, limit=9) == [everywhere]


async def test_of_a_place_that_others_are_served_from_all_can_go() -> None:
    places = {"facts": Place("ann", "bob"), "cache": Place("ann", "bob")}
    assert (await forgetting(places).forget("acme", "ann", by="key", whole=["cache"])).places == {"facts": 1, "cache": 2}


async def test_a_place_that_is_away_or_slow_is_told_and_a_repeat_does_the_rest() -> None:
    places = {"away": Place("ann"), "slow": Place("ann"), "there": Place("ann")}
    places["away"].away = places["slow"].slow = True
    made = forgetting(places)
    first = await made.forget("acme", "ann", by="key")
    assert (first.complete, first.places) == (False, {"away": None, "slow": None, "there": 1})
    places["away"].away = places["slow"].slow = False
    second = await made.forget("acme", "ann", by="key")
    assert (second.complete, second.places) == (True, {"away": 1, "slow": 1, "there": 0})
    assert sorted(await made.receipts("acme", "ann", limit=9), key=lambda one: one.complete) == [first, second]


async def test_a_receipt_that_cannot_be_kept_is_told() -> None:
    receipt = await forgetting({"facts": Place("ann")}, NoReceipts()).forget("acme", "ann", by="key")
    assert (receipt.complete, receipt.places) == (False, {"facts": 1, "receipts": None})


async def test_what_is_read_out_of_events_from_before_does_not_come_back() -> None:
    """Somebody is forgotten while a model reads what she did: it answers, and nothing is learnt."""
    clock = Clock()
    minded = Minded(store=InProcessFacts(InProcessChanges(), most=Most(), clock=clock), clock=clock)
    made = Forgetting({"facts": minded.store}, InProcessReceipts(), timeout_s=1)
    arrived = clock.now
    clock.now += timedelta(seconds=5)
    await made.forget("acme", "ann", by="key")
    await minded.store.learn("acme", "ann", [fact(minded, "city", "Oslo")], arrived=arrived)
    assert await minded.holds() == []
