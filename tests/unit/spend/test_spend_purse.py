"""The purse over real leases and the store in process: who may spend how much, and when not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from farthing.budgets import Ask, Budget, LeaseState, new_budget
from farthing.errors import BudgetExceeded, BudgetUnverified, PriceUnknown, Unavailable
from farthing.inprocess.budgets import InProcessBudgets
from farthing.inprocess.stores import InProcessChanges, InProcessLedger
from farthing.ports import Reservation
from farthing.settings import BudgetSettings, LimitsSettings
from farthing.snapshot import Snapshot
from farthing.spend.budget_book import BudgetBook
from farthing.spend.leases import Leases
from farthing.spend.lengths import Lengths
from farthing.spend.limit_rules import LimitRules
from farthing.spend.limit_table import LimitTable
from farthing.spend.limits import KeyLimits, TokenRates
from farthing.spend.purse import BudgetPurse
from farthing.testing.stores import encoded, ledger_entry
from farthing.types import Extras, Lifeline, Operation, Price, Principal, Request, Usage, new_id, utc_now

PRICE = Price(input=1_000_000, output=1_000_000, source="settings")  # a micro-dollar a token
WHO = Principal(key_id=UUID(int=7), tenant="acme", tier="free")
INPUT = 4  # tokens that a body of 10 bytes is taken for


class Store(InProcessBudgets):
    """Can be away."""

    away = False
    asked = 0

    async def lease(self, worker: str, asks: Sequence[Ask], ttl_s: float) -> list[LeaseState]:
        self.asked += 1
        if self.away:
            raise Unavailable("the database is away")
        return await super().lease(worker, asks, ttl_s)


class House:
    """One store and ledger; workers share them."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.ledger = InProcessLedger()
        self.store = Store(self.ledger, InProcessChanges())
        self.settings = BudgetSettings.model_validate({"wait_s": 0.3, **settings})
        self._folder = folder

    async def budget(self, limit: int, **facts: Any) -> Budget:
        usual: dict[str, Any] = {"scope": "tenant", "subject": "acme", "tenant": "acme", "hard": True, **facts}
        made = new_budget(usual["scope"], usual["tenant"], usual["subject"], "1/day", utc_now())
        found = msgspec.structs.replace(made, limit_microusd=limit, hard=usual["hard"])
        await self.store.put(found)
        return found

    @asynccontextmanager
    async def worker(self, name: str) -> AsyncIterator["Worker"]:
        worker = Worker(self, name, self._folder)
        await worker.book.reload()
        task = asyncio.create_task(worker.leases.run())
        yield worker
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Worker:
    def __init__(self, house: House, name: str, folder: Path) -> None:
        self._house = house
        self._name = name
        self.leases = Leases(house.store, house.settings, name, lambda: None)
        self.book = BudgetBook(house.store, house.settings, Snapshot(folder, "budgets", Budget), self.leases.changed, refresh_s=60)
        rules = LimitRules(LimitsSettings())
        rates = TokenRates(rules, KeyLimits(LimitTable(folder, rows=16, columns=4), max_wait_s=1))
        self.lengths = Lengths(100)
        self.purse = BudgetPurse(self.book, self.leases, self.lengths, rates, house.settings)

    async def reserve(self, max_tokens: int | None = None, *, price: Price = PRICE, who: Principal = WHO) -> Reservation:
        return await self.purse.reserve(request(max_tokens, who), "m", price)

    async def spend(self, held: Reservation, cost: int) -> None:
        """What the attempt's entry does: the ledger first, then the lease."""
        entry = ledger_entry(utc_now(), cost_microusd=cost, worker=self._name)
        await self._house.ledger.append(encoded(entry))
        held.settle(Usage(input=INPUT, output=max(0, cost - INPUT), source="provider"), cost)


def request(max_tokens: int | None, who: Principal = WHO) -> Request:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    return Request(
        id=new_id(),
        principal=who,
        operation=Operation.CHAT,
        body=body,
        size=10,
        model="m",
        extras=Extras(),
        started_ns=0,
        lifeline=Lifeline(None),
    )


async def test_a_budget_is_spent_to_the_last_whole_answer_and_then_refused(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.budget(1000)
    async with house.worker("a") as worker:
        for _ in range(10):
            await worker.spend(await worker.reserve(96), 100)
        with pytest.raises(BudgetExceeded) as refused:
            await worker.reserve(96)
        assert refused.value.retry is False
        assert "0.001000 of 0.001000 USD are spent" in refused.value.message
        assert worker.purse.refused == 1


async def test_what_was_not_used_can_be_spent(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.budget(1000)
    async with house.worker("a") as worker:
        for cost in (0, 10, 900):
            await worker.spend(await worker.reserve(900), cost)
        await worker.reserve(80)


async def test_what_is_reserved_elsewhere_is_waited_for_and_then_refused_for_the_moment(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.budget(1000)
    async with house.worker("a") as one, house.worker("b") as two:
        held = await one.reserve(900)
        with pytest.raises(BudgetExceeded) as refused:
            await two.reserve(900)
        assert refused.value.retry is True
        waiting = asyncio.create_task(two.reserve(900))
        await asyncio.sleep(0.05)
        held.settle(Usage(), 0)
        (await waiting).settle(Usage(), 0)


async def test_two_workers_that_hold_halves_do_not_wait_for_each_other_for_ever(tmp_path: Path) -> None:
    house = House(tmp_path, grant_share=0.25, wait_s=5)
    await house.budget(1000)
    async with house.worker("a") as one, house.worker("b") as two:
        for worker in (one, two):
            await worker.spend(await worker.reserve(200), 100)
        held = await asyncio.gather(one.reserve(700), return_exceptions=True)
        assert not isinstance(held[0], BaseException)


async def test_any_number_of_callers_at_once_never_overspend(tmp_path: Path) -> None:
    house = House(tmp_path, wait_s=5)
    await house.budget(2000)
    answered = 0

    async def call(worker: Worker, number: int) -> None:
        nonlocal answered
        held = await worker.reserve(96)
        await asyncio.sleep(0.001 * (number % 5))
        await worker.spend(held, 100)
        answered += 1

    async with house.worker("a") as one, house.worker("b") as two, house.worker("c") as three:
        done = await asyncio.gather(*(call((one, two, three)[n % 3], n) for n in range(60)), return_exceptions=True)
    refused = [one for one in done if isinstance(one, BaseException)]
    assert all(isinstance(one, BudgetExceeded) for one in refused)
    assert answered == 20
    assert sum(entry.cost_microusd for entry in house.ledger.entries()) == 2000


async def test_an_answer_of_unknown_length_has_what_is_left_for_itself_alone(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.budget(60)
    async with house.worker("a") as worker:
        held = await worker.reserve()
        with pytest.raises(BudgetExceeded):
            await worker.reserve()
        await worker.spend(held, 55)
        with pytest.raises(BudgetExceeded):
            await worker.reserve()


async def test_every_budget_of_the_caller_counts(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.budget(10_000)
    await house.budget(100, scope="key", subject=str(WHO.key_id))
    async with house.worker("a") as worker:
        await worker.spend(await worker.reserve(90), 94)
        with pytest.raises(BudgetExceeded, match="of this API key"):
            await worker.reserve(90)
        await worker.reserve(90, who=msgspec.structs.replace(WHO, key_id=UUID(int=8)))
        await worker.reserve(90, who=Principal(key_id=UUID(int=9), tenant="other"))


async def test_others_are_not_told_what_strangers_spent(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.budget(10, scope="total", subject="", tenant=None)
    async with house.worker("a") as worker:
        with pytest.raises(BudgetExceeded) as refused:
            await worker.reserve(90)
    assert "USD" not in refused.value.message


async def test_a_soft_budget_refuses_nobody_and_says_that_it_is_spent(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.budget(10, hard=False)
    async with house.worker("a") as worker:
        await worker.spend(await worker.reserve(90), 94)
        worker.leases._wake.set()
        await asyncio.sleep(0.02)
        asked = request(90)
        (await worker.purse.reserve(asked, "m", PRICE)).settle(Usage(), 0)
        assert asked.over_budget


async def test_a_model_that_costs_nothing_needs_no_money(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.budget(0)
    async with house.worker("a") as worker:
        for price in (Price(input=5, output=5, source="notional"), Price(source="settings")):
            await worker.reserve(10, price=price)
        with pytest.raises(BudgetExceeded):
            await worker.reserve(10)


async def test_a_model_without_a_price_is_refused_where_a_hard_budget_holds(tmp_path: Path) -> None:
    house = House(tmp_path)
    async with house.worker("a") as worker:
        await worker.reserve(10, price=Price())
        await house.budget(1000)
        await worker.book.reload()
        with pytest.raises(PriceUnknown, match="input_usd_per_1m"):
            await worker.reserve(10, price=Price())
    house.settings = BudgetSettings(unknown_price="allow")
    async with house.worker("b") as lenient:
        await lenient.reserve(10, price=Price())


async def test_while_the_store_is_away_the_last_grants_are_spent_and_then_it_says_so(tmp_path: Path) -> None:
    house = House(tmp_path, grant_share=0.25)
    await house.budget(1000)
    async with house.worker("a") as worker:
        await worker.spend(await worker.reserve(96), 100)
        house.store.away = True
        for _ in range(2):
            await worker.spend(await worker.reserve(96), 100)
        with pytest.raises(BudgetUnverified):
            await worker.reserve(500)
        house.store.away = False
        await worker.leases.refill([])
        await worker.reserve(500)


async def test_a_lease_whose_time_is_over_is_not_spent(tmp_path: Path) -> None:
    house = House(tmp_path, grant_share=0.25)
    await house.budget(1000)
    async with house.worker("a") as worker:
        held = await worker.reserve(96)
        held.settle(Usage(), 0)
        house.store.away = True
        for lease in worker.leases._leases.values():
            lease.valid_until = 0.0
        with pytest.raises(BudgetUnverified):
            await worker.reserve(96)


async def test_a_limit_lowered_below_what_is_spent_stops_the_next_call(tmp_path: Path) -> None:
    house = House(tmp_path, grant_share=0.25)
    await house.budget(1000)
    async with house.worker("a") as worker:
        held = await worker.reserve(96)
        await house.budget(50)
        await worker.book.reload()
        with pytest.raises(BudgetExceeded):
            await worker.reserve(96)
        await worker.spend(held, 100)
        await house.budget(300)
        await worker.book.reload()
        await worker.reserve(96)


async def test_a_new_window_begins_with_all_of_the_budget(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.budget(100)
    async with house.worker("a") as worker:
        held = await worker.reserve(90)
        for lease in worker.leases._leases.values():
            lease.ends = 0.0
        again = await worker.reserve(2)
        held.settle(Usage(), 0)
        again.settle(Usage(), 0)


async def test_the_books_snapshot_is_known_without_the_store(tmp_path: Path) -> None:
    house = House(tmp_path)
    kept = await house.budget(100)
    async with house.worker("a") as worker:
        await worker.book.close()
    late = Worker(House(tmp_path, tiers={"free": "5/day"}), "b", tmp_path)
    await late.book.open()
    assert {budget.id for budget in late.book.of(WHO, None)} > {kept.id}
    assert len(late.book.of(WHO, None)) == 2


def test_the_bound_counts_what_the_caller_allows_and_all_it_sends() -> None:
    lengths = Lengths(1000)
    asked = request(50)
    assert lengths.bounds(asked, "m").wanted == lengths.bounds(asked, "m").least == 50
    asked.body["n"] = 3
    assert lengths.bounds(asked, "m").wanted == 150
    unknown = request(None)
    assert (lengths.bounds(unknown, "m").wanted, lengths.bounds(unknown, "m").exact) == (1000, False)
    for _ in range(8):
        lengths.saw("m", Usage(output=40))
    assert 40 <= lengths.bounds(unknown, "m").least <= lengths.bounds(unknown, "m").wanted < 100
    assert lengths.bounds(unknown, "other").wanted == 1000


def test_large_bodies_are_counted_by_their_texts_tools_and_images() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 200_000}}
    asked = request(5)
    asked.body["messages"] = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, picture]}]
    asked.size = 200_100
    small = Lengths(1).bounds(asked, "m").input
    assert 1_600 <= small < 2_000
    asked.body["tools"] = [{"type": "function", "function": {"name": "f", "description": "x" * 30_000}}]
    assert Lengths(1).bounds(asked, "m").input >= small + 10_000
