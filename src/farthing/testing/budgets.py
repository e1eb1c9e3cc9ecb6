"""What every `ports.BudgetStore` must do. Subclass the suite in a test module and give it a fixture `stores` with budgets."""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.budgets import Ask, Budget, LeaseState, Window, settings_budget
from farthing.errors import InvalidRequest
from farthing.testing.stores import Stores, encoded, ledger_entry
from farthing.types import new_id, utc_now

_DAY = Window(kind="day")
_TTL_S = 60.0


def budget(**facts: Any) -> Budget:
    """A hard budget of 1,000 micro-dollars a day of the tenant acme."""
    usual: dict[str, Any] = {"id": new_id(), "scope": "tenant", "subject": "acme", "tenant": "acme", "limit_microusd": 1000, "window": _DAY}
    return Budget(**{**usual, "created_at": utc_now(), **facts})


def ask(of: Budget, change: int, *, least: int = 0, at: datetime | None = None) -> Ask:
    """For the present window."""
    at = at or utc_now()
    return Ask(budget_id=of.id, window_start=of.window.start(at), since=of.window.since(at), change=change, least=least)


async def _lease(stores: Stores, worker: str, of: Budget, change: int, least: int = 0) -> LeaseState:
    (state,) = await stores.budgets.lease(worker, [ask(of, change, least=least)], _TTL_S)
    return state


async def _spend(stores: Stores, cost: int, **facts: Any) -> None:
    await stores.ledger.append(encoded(ledger_entry(**{"at": utc_now(), "cost_microusd": cost, **facts})))


async def _spent(stores: Stores, of: Budget) -> int:
    (use,) = await stores.budgets.uses([of], utc_now())
    return use.spent_microusd


class BudgetStoreContract:
    """`ports.BudgetStore`."""

    async def test_a_budget_comes_back_as_it_was_stored(self, stores: Stores) -> None:
        kept = [budget(), budget(window=Window(kind="rolling", seconds=3600), hard=False, scope="total", subject="", tenant=None)]
        for one in kept:
            await stores.budgets.put(one)
        assert await stores.budgets.all(10) == sorted(kept, key=lambda b: (b.created_at, b.id))
        assert len(await stores.budgets.all(1)) == 1

    async def test_putting_again_changes_limit_and_hardness_only(self, stores: Stores) -> None:
        first = budget()
        await stores.budgets.put(first)
        await stores.budgets.put(budget(id=first.id, limit_microusd=5, hard=False))
        (found,) = await stores.budgets.all(10)
        assert (found.limit_microusd, found.hard, found.created_at) == (5, False, first.created_at)
        for other in ({"subject": "other"}, {"tenant": None}, {"window": Window(kind="hour")}, {"scope": "user"}):
            with pytest.raises(InvalidRequest):
                await stores.budgets.put(budget(id=first.id, **other))

    async def test_deleting_tells_whether_there_was_one(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        await _lease(stores, "w", one, 10)
        assert await stores.budgets.delete(one.id)
        assert not await stores.budgets.delete(one.id)
        assert await stores.budgets.lease("w", [ask(one, 10)], _TTL_S) == []
        assert await stores.budgets.uses([one], utc_now()) == []

    async def test_budgets_of_the_settings_come_change_and_go_with_them(self, stores: Stores) -> None:
        mine = budget()
        await stores.budgets.put(mine)
        free, pro = (settings_budget("tier", tier, "5/day", utc_now()) for tier in ("free", "pro"))
        await stores.budgets.sync_settings([free, pro])
        await _lease(stores, "w", free, 10, least=10)
        await stores.budgets.sync_settings([settings_budget("tier", "free", "7/day", utc_now())])
        assert {b.id: b.limit_microusd for b in await stores.budgets.all(10)} == {mine.id: 1000, free.id: 7_000_000}
        assert not (await _lease(stores, "w", free, 0)).fresh

    async def test_the_ledger_is_what_counts(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        await _spend(stores, 30)
        await _spend(stores, 12, tenant="other")
        await _spend(stores, 1000, price_source="notional")
        again = ledger_entry(utc_now(), cost_microusd=5)
        await stores.ledger.append(encoded(again, again))
        await stores.ledger.append(encoded(again))
        assert await _spent(stores, one) == 35

    async def test_a_new_budget_counts_what_was_spent_before_it(self, stores: Stores) -> None:
        await _spend(stores, 30)
        await _spend(stores, 100, at=utc_now() - timedelta(days=40))
        one, month = budget(), budget(window=Window(kind="month"))
        rolling = budget(window=Window(kind="rolling", seconds=3600))
        for each in (one, month, rolling):
            await stores.budgets.put(each)
            assert await _spent(stores, each) == 30

    @pytest.mark.parametrize(
        ("facts", "counts"),
        [
            ({"scope": "total", "subject": "", "tenant": None}, True),
            ({"scope": "tier", "subject": "free", "tenant": None}, True),
            ({"scope": "tier", "subject": "pro", "tenant": None}, False),
            ({"scope": "key", "subject": str(UUID(int=7))}, True),
            ({"scope": "key", "subject": str(UUID(int=8))}, False),
            ({"scope": "user", "subject": "ann"}, True),
            ({"scope": "user", "subject": "ann", "tenant": "other"}, False),
            ({"scope": "user", "subject": "bob"}, False),
        ],
    )
    async def test_spending_counts_for_whom_it_is_of(self, stores: Stores, facts: dict[str, Any], counts: bool) -> None:  # noqa: FBT001 - a table
        one = budget(**facts)
        await stores.budgets.put(one)
        await _spend(stores, 30, user_id="ann")
        assert await _spent(stores, one) == (30 if counts else 0)
        entry = ledger_entry(utc_now(), user_id="ann")
        assert one.covers(tenant=entry.tenant, key_id=entry.key_id, user=entry.user_id, tier=entry.tier) is counts

    async def test_leases_and_spending_together_stay_within_the_limit(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        await _spend(stores, 100)
        first = await _lease(stores, "a", one, 600, least=600)
        assert (first.granted, first.spent, first.others, first.fresh) == (600, 100, 0, True)
        second = await _lease(stores, "b", one, 600, least=600)
        assert (second.granted, second.others) == (0, 600)
        third = await _lease(stores, "b", one, 600, least=300)
        assert third.granted == 300
        assert (await _lease(stores, "c", one, 1)).granted == 0

    async def test_beyond_the_least_a_worker_gets_half_of_what_is_left(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        assert (await _lease(stores, "a", one, 5000)).granted == 500
        assert (await _lease(stores, "b", one, 5000, least=10)).granted == 250
        assert (await _lease(stores, "b", one, 100)).granted == 350

    async def test_who_cannot_have_enough_gives_back_what_it_does_not_use(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        for worker in "ab":
            await _lease(stores, worker, one, 500, least=500)
        wanting = msgspec.structs.replace(ask(one, 300, least=300), spare=450)
        (first,) = await stores.budgets.lease("a", [wanting], _TTL_S)
        (second,) = await stores.budgets.lease("b", [wanting], _TTL_S)
        assert (first.granted, second.granted) == (50, 800)

    async def test_the_rest_goes_to_one_that_asks_alone(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        wanting = msgspec.structs.replace(ask(one, 1500, least=1500), rest=700)
        (first,) = await stores.budgets.lease("a", [wanting], _TTL_S)
        (second,) = await stores.budgets.lease("b", [wanting], _TTL_S)
        assert (first.granted, second.granted) == (1000, 0)

    async def test_what_the_ledger_sees_settles_the_lease_of_its_worker(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        await _lease(stores, "a", one, 400, least=400)
        await _spend(stores, 150, worker="a")
        state = await _lease(stores, "a", one, 0)
        assert (state.granted, state.spent, state.unsettled) == (400, 150, 250)
        assert (await _lease(stores, "b", one, 600, least=600)).granted == 600
        given_back = await _lease(stores, "a", one, -250)
        assert (given_back.granted, given_back.unsettled) == (150, 0)
        assert (await _lease(stores, "b", one, 250, least=250)).granted == 850

    async def test_a_lowered_limit_cuts_leases_at_their_next_word(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        await _lease(stores, "a", one, 800, least=800)
        await _spend(stores, 300, worker="a")
        await stores.budgets.put(budget(id=one.id, limit_microusd=350))
        assert (await _lease(stores, "a", one, 0)).granted == 350
        await stores.budgets.put(budget(id=one.id, limit_microusd=10))
        state = await _lease(stores, "a", one, 100, least=1)
        assert (state.granted, state.limit_microusd) == (300, 10)

    async def test_a_lapsed_lease_is_free_for_others_and_cut_when_its_worker_comes_back(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        await stores.budgets.lease("a", [ask(one, 800, least=800)], 0.05)
        await asyncio.sleep(0.1)
        assert (await _lease(stores, "b", one, 900, least=900)).granted == 900
        assert (await _lease(stores, "a", one, 0)).granted == 100

    async def test_a_released_worker_holds_nothing(self, stores: Stores) -> None:
        one = budget()
        await stores.budgets.put(one)
        await _lease(stores, "a", one, 800, least=800)
        await _spend(stores, 100, worker="a")
        await stores.budgets.release("a")
        assert (await _lease(stores, "b", one, 900, least=900)).granted == 900

    async def test_pruning_takes_nothing_that_counts(self, stores: Stores) -> None:
        kept = [budget(window=window) for window in (_DAY, Window(kind="lifetime"), Window(kind="rolling", seconds=86_400 * 200))]
        await _spend(stores, 30, at=utc_now() - timedelta(days=150))
        await _spend(stores, 4)
        for one in kept:
            await stores.budgets.put(one)
        await _lease(stores, "a", kept[0], 10, least=10)
        await stores.budgets.prune()
        assert [await _spent(stores, one) for one in kept] == [4, 34, 34]
        assert not (await _lease(stores, "a", kept[0], 0)).fresh

    async def test_workers_that_ask_at_the_same_time_never_get_more_than_there_is(self, stores: Stores) -> None:
        one, two = budget(), budget(scope="total", subject="", tenant=None, limit_microusd=700)
        for each in (one, two):
            await stores.budgets.put(each)

        async def take(worker: str, order: list[Budget]) -> dict[UUID, int]:
            return {s.budget_id: s.granted for s in await stores.budgets.lease(worker, [ask(b, 90, least=90) for b in order], _TTL_S)}

        taken = await asyncio.gather(*(take(f"w{n}", [one, two] if n % 2 else [two, one]) for n in range(20)))
        assert sum(t[one.id] for t in taken) == 990
        assert sum(t[two.id] for t in taken) == 630

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    async def test_workers_that_spend_what_they_were_granted_never_overspend(self, stores: Stores, data: st.DataObject) -> None:
        steps = data.draw(st.lists(st.tuples(_WHAT, st.sampled_from("abc"), st.integers(0, 300)), max_size=25))
        one = budget(limit_microusd=500, scope="user", subject=new_id().hex)
        await stores.budgets.put(one)
        granted, used, limit = dict.fromkeys("abc", 0), dict.fromkeys("abc", 0), one.limit_microusd
        for what, worker, number in steps:
            name = f"{worker}-{one.id}"
            if what == "ask":
                granted[worker] = (await _lease(stores, name, one, number, number // 2)).granted
            elif what == "back":
                granted[worker] = (await _lease(stores, name, one, -min(number, granted[worker] - used[worker]))).granted
            elif what == "spend" and granted[worker] > used[worker]:
                cost = min(number, granted[worker] - used[worker])
                used[worker] += cost
                await _spend(stores, cost, user_id=one.subject, worker=name)
            elif what == "raise":
                limit += number
                await stores.budgets.put(budget(id=one.id, limit_microusd=limit, scope="user", subject=one.subject))
            elif what == "release":
                await stores.budgets.release(name)
                granted[worker], used[worker] = 0, 0
            assert all(granted[w] >= used[w] for w in "abc")
        assert await _spent(stores, one) <= limit


_WHAT = st.sampled_from(["ask", "back", "spend", "raise", "release"])
