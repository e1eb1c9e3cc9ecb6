"""Spending is counted, told, heard and read from the ledger, so that every worker knows what all spend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest
from mode_world import START

from farthing.errors import Unavailable
from farthing.inprocess.config import InProcessConfig
from farthing.inprocess.spend_log import InProcessSpendLog
from farthing.inprocess.stores import InProcessChanges, InProcessLedger
from farthing.modes import MODES
from farthing.settings import Settings
from farthing.snapshot import Snapshot
from farthing.spend.mode_book import ModeBook
from farthing.spend.mode_control import ModeControl
from farthing.spend.mode_stage import ModeStage, SpendWatch
from farthing.spend.mode_watch import ModeWatch, SteadyClock
from farthing.testing.stores import encoded, ledger_entry
from farthing.types import (
    ANONYMOUS,
    DEEP,
    TOTAL,
    Answer,
    Document,
    Extras,
    Lifeline,
    Mode,
    Operation,
    Principal,
    Request,
    Source,
    SpendRow,
    new_id,
)

SETTINGS = Settings.model_validate({"modes": {"ceiling_usd": 1, "window_s": 60, "horizon_s": 20, "dwell_s": 5}})
LADDER = SETTINGS.ladder()
WHO = Principal(key_id=UUID(int=7), tenant="acme", tier="free")


class Log(InProcessSpendLog):
    """A log that can be away."""

    away = False

    async def tell(self, rows: Sequence[SpendRow], worker: str) -> None:
        if self.away:
            raise Unavailable("away")
        await super().tell(rows, worker)


class Moving:
    """A wall clock and a steady one, moved apart by a test."""

    def __init__(self) -> None:
        self.wall, self.steady = START, 5.0

    def move(self, seconds: float, *, jump: float = 0.0) -> None:
        self.steady += seconds
        self.wall += seconds + jump


class Worker:
    def __init__(self, folder: Path, name: str, ledger: InProcessLedger, changes: InProcessChanges, time_: Moving) -> None:
        self.clock = SteadyClock(lambda: time_.wall, lambda: time_.steady)
        self.control = ModeControl(SETTINGS.modes, LADDER, self.clock, (1000.0, 500.0, 0.0), announced=True)
        self.book = ModeBook(InProcessConfig(changes), LADDER, Snapshot(folder, MODES, Document), lambda: time_.wall)
        self.log = Log(ledger, changes)
        self.watch = ModeWatch(self.control, self.book, self.log, self.clock, LADDER, name)
        self.seen = SpendWatch(self.control.demand)

    @property
    def spent(self) -> int:
        return self.control.demand.window.total.total

    def spend(self, microusd: int) -> None:
        request = a_request()
        self.seen.came(request)
        self.seen.observe(ledger_entry(request_id=request.id, cost_microusd=microusd), request)
        self.control.demand.fold()


class House:
    def __init__(self, folder: Path) -> None:
        self.time = Moving()
        self.ledger, self.changes = InProcessLedger(), InProcessChanges()
        self.workers = [Worker(folder, name, self.ledger, self.changes, self.time) for name in ("w1", "w2")]

    async def news(self, count: int) -> list[str]:
        """What is published, from now on."""
        found: list[str] = []
        async with asyncio.timeout(5):
            async for channel, payload in self.changes.watch():
                if channel == "spend" and payload:
                    found.append(payload)
                    if len(found) == count:
                        break
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def a_request(who: Principal = WHO, mode: Mode = DEEP) -> Request:
    return Request(
        id=new_id(),
        principal=who,
        operation=Operation.CHAT,
        body={},
        model="fast",
        extras=Extras(),
        started_ns=0,
        mode=mode,
        lifeline=Lifeline(None),
    )


async def test_others_hear_what_one_spends_and_once(house: House) -> None:
    one, two = house.workers
    listening = asyncio.create_task(house.news(1))
    await asyncio.sleep(0)
    one.spend(1000)
    telling = asyncio.create_task(one.watch.tell())
    [news] = await listening
    telling.cancel()
    for _ in range(2):
        two.watch.heard(news)
        one.watch.heard(news)
    assert (one.spent, two.spent) == (1000, 1000)


async def test_what_could_not_be_told_is_told_later(house: House) -> None:
    one, _ = house.workers
    one.log.away = True
    one.spend(1000)
    rows = one.control.demand.take_untold()
    one.control.demand.untell(rows)
    one.spend(500)
    assert sum(row.microusd for row in one.control.demand.take_untold()) == 1500
    assert one.control.demand.take_untold() == []


async def test_lost_news_are_noticed_and_the_ledger_is_read(house: House) -> None:
    one, two = house.workers
    listening = asyncio.create_task(house.news(3))
    await asyncio.sleep(0)
    for cost in (1, 10, 100):
        one.spend(cost)
        await one.log.tell(one.control.demand.take_untold(), "w1")
        at = datetime.fromtimestamp(house.time.wall).astimezone()
        await house.ledger.append(encoded(ledger_entry(at=at, cost_microusd=cost, worker="w1")))
    first, _, third = await listening
    two.watch._missed.clear()
    two.watch.heard(first)
    assert not two.watch._missed.is_set()
    two.watch.heard(third)
    assert (two.watch.lost, two.spent) == (1, 101)
    assert two.watch._missed.is_set()
    await two.watch.load()
    assert two.spent == 111


@pytest.mark.parametrize(
    "payload", ["nonsense", "[]", '["w9",1,0,[["a",null,null,null,1e99,1]]]', '["w9",1,0,[["a",null,null,null,-1,1]]]']
)
async def test_news_that_are_none_are_told_and_change_nothing(house: House, payload: str, caplog: pytest.LogCaptureFixture) -> None:
    one, _ = house.workers
    one.watch.heard(payload)
    assert one.spent == 0
    assert "no news of spending" in caplog.text


async def test_a_start_knows_what_was_spent_before_it(house: House) -> None:
    one, _ = house.workers
    for age in (10, 50, 70):
        at = datetime.fromtimestamp(house.time.wall - age).astimezone()
        await house.ledger.append(encoded(ledger_entry(at=at, cost_microusd=1000, worker="before")))
    await one.watch.load()
    assert one.spent == 2000
    house.time.move(15)
    one.control.demand.fold()
    assert one.spent == 1000


async def test_until_the_ledger_was_read_nobody_goes_up(house: House) -> None:
    one, _ = house.workers
    one.spend(990_000)
    one.watch.look()
    assert one.book.mode_of(WHO).name == "SUPER_SHALLOW"
    for _ in range(2):
        house.time.move(120)
        one.watch.look()
        assert one.book.mode_of(WHO).name == "SUPER_SHALLOW"
    await one.watch.load()
    one.watch.look()
    assert one.book.mode_of(WHO).name == "DEEP"


@pytest.mark.parametrize("jump", [-7200.0, -90.0, 90.0, 7200.0])
async def test_a_wall_clock_that_jumps_loses_no_spending(house: House, jump: float) -> None:
    one, _ = house.workers
    one.spend(1000)
    at = datetime.fromtimestamp(house.time.wall - 1).astimezone()
    await house.ledger.append(encoded(ledger_entry(at=at, cost_microusd=200, worker="w2")))
    house.time.move(5, jump=jump)
    at = datetime.fromtimestamp(house.time.wall).astimezone()
    await house.ledger.append(encoded(ledger_entry(at=at, cost_microusd=30, worker="w2")))
    await one.watch.load()
    assert one.spent in {1230, 1030}, "what the others spent before a jump may be out of the window, what they spend now may not"
    assert one.spent == 1230 or jump > 0
    house.time.move(65)
    one.control.demand.fold()
    assert one.spent == 0


async def test_requests_under_way_count_before_they_are_billed(house: House) -> None:
    one, _ = house.workers
    requests = [a_request() for _ in range(200)]
    for request in requests:
        one.seen.came(request)
    assert one.control.demand.under_way_microusd() == 0, "nothing is known of what they cost, until they are counted"
    one.control.demand.fold()
    assert one.control.demand.under_way_microusd() == 200_000
    for request in requests:
        one.seen.observe(ledger_entry(request_id=request.id, cost_microusd=0, source=Source.EXACT), request)
    assert one.control.demand.under_way_microusd() == 0


async def test_errands_cost_and_are_no_requests_and_what_nobody_bills_costs_nothing(house: House) -> None:
    one, _ = house.workers
    request = a_request()
    one.seen.observe(ledger_entry(request_id=request.id, purpose="verify", final=False, cost_microusd=70), request)
    one.seen.observe(ledger_entry(request_id=request.id, price_source="notional", cost_microusd=9000), request)
    one.seen.observe(ledger_entry(request_id=request.id, key_id=None, cost_microusd=0), a_request(ANONYMOUS))
    one.control.demand.fold()
    assert one.spent == 70
    assert one.control.demand.tiers["free"].requests_per_s(one.clock()) == 0


async def test_the_stage_sets_the_mode_and_waits_for_nothing(house: House) -> None:
    one, _ = house.workers
    one.spend(990_000)
    one.watch.look()
    stage = ModeStage(one.book.mode_of, one.seen.came)
    seen: list[str] = []

    async def following(request: Request) -> Answer:
        seen.append(request.mode.name)
        return Answer(source=Source.MODEL, model="fast")

    await stage(a_request(), following)
    assert seen == ["SUPER_SHALLOW"]


def test_seeing_costs_next_to_nothing_of_a_request(house: House) -> None:
    """No assertion on time alone: a hundred thousand are seen in what one slow model call takes."""
    one, _ = house.workers
    request, entry = a_request(), ledger_entry(cost_microusd=5)
    began = time.perf_counter()
    for _ in range(10_000):
        one.seen.observe(entry, request)
    assert time.perf_counter() - began < 10
    one.control.demand.fold()
    assert one.spent == 50_000
    assert len(one.control.demand.take_untold()) == 1


async def test_an_outlook_says_when_the_ceiling_is_reached(house: House) -> None:
    one, _ = house.workers
    for _ in range(40):
        house.time.move(0.25)
        one.spend(5_000)
    outlook = one.control.outlook(one.book.state)
    assert (outlook.spent_microusd, outlook.ceiling_microusd) == (200_000, 1_000_000)
    assert outlook.exhausted_in_s is not None
    assert outlook.exhausted_in_s_at_least is not None
    assert 20 < outlook.exhausted_in_s < 80
    assert outlook.exhausted_in_s_at_least <= outlook.exhausted_in_s
    assert TOTAL not in one.book.state.entries
