import asyncio
from datetime import timedelta
from typing import Any

import pytest
from foresight_house import COST, House, text_of

from farthing.errors import Unavailable
from farthing.foresight.precompute import HANDLER, PURPOSE, TIER
from farthing.ports import LATE_CLICKS
from farthing.types import Source

_SECOND = timedelta(seconds=1)


def several(count: int, **facts: Any) -> dict[str, Any]:
    """Actions after a login, the later ones worth more."""
    one = {"after": ["user.login"], "model": "fast", "user": "Brief {user}.", "depends_on": ["deployments"], **facts}
    return {f"a{number}": {**one, "price_of_latency_usd": str(0.001 * (number + 1))} for number in range(count)}


async def test_after_a_login_the_answers_are_there_before_the_click() -> None:
    house = House(actions=several(3))
    await house.event("user.login")
    assert house.foresee.computed == 3
    for name in house.actions:
        answer = await house.click(action=name)
        assert (answer.source, answer.saved_microusd) == (Source.EDGE, COST)
    assert len(house.asked) == 3


async def test_they_are_computed_at_the_same_time() -> None:
    house = House(actions=several(3))
    together = asyncio.Barrier(3)

    async def meet() -> None:
        async with asyncio.timeout(5):
            await together.wait()

    house.thinking = meet
    await house.event("user.login")
    assert house.foresee.computed == 3


async def test_no_more_than_the_most_valuable_few() -> None:
    house = House(actions=several(5), explore=0)
    await house.event("user.login")
    assert sorted({name for name in house.actions if await house.store.get("acme", "ann", name)}) == ["a2", "a3", "a4"]
    assert house.foresee.left_out == 2


async def test_it_is_done_on_the_tenants_account_for_the_user() -> None:
    house = House()
    await house.event("user.login")
    request = house.asked[0]
    assert (request.purpose, request.principal.tenant, request.user, request.principal.tier) == (PURPOSE, "acme", "ann", TIER)
    assert (request.extras.cache, request.extras.store, request.fingerprint) == ("off", False, "print of fast")


async def test_an_event_that_comes_twice_costs_once() -> None:
    house = House()
    await house.event("user.login")
    await house.event("user.login")
    assert len(house.asked) == 1
    assert house.foresee.ready == 1


async def test_a_deployment_takes_the_answer_away_and_the_next_login_makes_a_new_one() -> None:
    house = House()
    await house.event("user.login")
    await house.event("deployment.done", user=None)
    assert await house.store.get("acme", "ann", "briefing") is None
    house.clock.now += _SECOND
    await house.event("user.login", number=1)
    assert text_of(await house.click()) == "Answer 2"
    await house.book.drain()
    house.clock.now += LATE_CLICKS
    await house.log.settle()
    counts = (await house.counts())["briefing/"]
    assert (counts.computed, counts.stale, counts.read) == (2, 1, 1)


async def test_a_state_that_changes_meanwhile_has_it_made_once_more_and_then_left() -> None:
    house = House()

    async def deployed() -> None:
        if len(house.asked) <= changes:
            house.states.bump("acme", ["deployments"])

    house.thinking, changes = deployed, 1
    await house.event("user.login")
    assert text_of(await house.click()) == "Answer 2"
    changes = 99
    await house.event("user.login", user="bob")
    assert house.foresee.moved == 1
    assert await house.store.get("acme", "bob", "briefing") is None
    assert len(house.asked) == 4


async def test_a_change_between_the_versions_and_the_context_is_not_lost() -> None:
    action = {
        "after": ["user.login"],
        "model": "fast",
        "user": "{context.alerts}",
        "depends_on": ["deployments"],
        "context": {"alerts": {"url": "https://api.example.com/alerts"}},
    }
    house = House(actions={"briefing": action})
    house.pages["https://api.example.com/alerts"] = b'"before"'

    async def late() -> None:
        if len(house.asked) == 1:  # the world has moved on since the context was read
            house.pages["https://api.example.com/alerts"] = b'"after"'
            house.states.bump("acme", ["deployments"])

    house.thinking = late
    house.says = lambda: house.asked[-1].body["messages"][-1]["content"]
    await house.event("user.login")
    assert "after" in text_of(await house.click())


async def test_answers_that_hang_on_the_events_own_project_stay_when_another_ones_changes() -> None:
    house = House(actions={"briefing": {"after": ["ticket.opened"], "model": "fast", "user": "{data.title}", "depends_on": ["project"]}})
    await house.event("ticket.opened", data={"project": "p1", "title": "It burns"})
    assert '"It burns"' in house.prompt()
    await house.event("ticket.closed", user="bob", data={"project": "p2"})
    assert await house.store.get("acme", "ann", "briefing") is not None
    await house.event("ticket.closed", user="bob", data={"project": "p1"})
    assert await house.store.get("acme", "ann", "briefing") is None


async def test_a_click_while_it_is_computed_waits_for_it() -> None:
    house = House()

    async def slow() -> None:
        await asyncio.sleep(0.03)

    house.thinking = slow
    login = asyncio.create_task(house.event("user.login"))
    await asyncio.sleep(0.01)
    answer = await house.click()
    await login
    assert (answer.source, text_of(answer)) == (Source.EDGE, "Answer 1")
    assert len(house.asked) == 1


async def test_old_events_and_those_of_nobody_foretell_nothing() -> None:
    house = House()
    await house.event("user.login", user=None)
    await house.event("user.login", time=house.clock.now - timedelta(hours=1))
    await house.event("user.login", received_at=house.clock.now - timedelta(hours=1))
    await house.event("page.viewed")
    assert house.asked == []
    assert house.foresee.late == 2


async def test_while_money_is_short_nothing_is_computed_that_nobody_asked_for() -> None:
    house = House()
    house.short_of_money.add("acme")
    await house.event("user.login")
    assert (house.asked, house.foresee.left_out) == ([], 1)
    assert text_of(await house.click()) == "Answer 1"
    house.short_of_money.clear()
    await house.event("user.login", user="bob")
    assert house.foresee.computed == 1


async def test_an_answer_that_nobody_reads_is_not_computed_any_more() -> None:
    house = House(explore=0)
    for number in range(40):
        await house.event("user.login", user=f"u{number}", number=number)
        house.clock.now += timedelta(hours=2)
        await house.log.settle()
        await house.book.drain()
        house.book._learned.clear()
    assert len(house.asked) < 40
    assert house.foresee.left_out > 0
    before = len(house.asked)
    await house.event("user.login", number=99)
    assert len(house.asked) == before


async def test_what_is_read_is_computed_on() -> None:
    house = House(explore=0)
    for number in range(40):
        await house.event("user.login", user=f"u{number}", number=number)
        await house.click(f"u{number}")
        house.clock.now += timedelta(hours=2)
        await house.book.drain()
        await house.log.settle()
        house.book._learned.clear()
    assert len(house.asked) == 40
    counts = (await house.counts())["briefing/"]
    assert counts.read == counts.computed > 0


async def test_segments_are_counted_apart_within_their_bound() -> None:
    house = House(
        actions={"briefing": {"after": ["user.login"], "model": "fast", "user": "Brief.", "segment": "data.plan"}},
        max_segments=2,
    )
    for number, plan in enumerate(["pro", "free", "pro", "team", None]):
        await house.event("user.login", user=f"u{number}", data={"plan": plan}, number=number)
        await house.book.drain()
        house.book._learned.clear()
    assert sorted(await house.counts()) == ["briefing/", "briefing/(others)", "briefing/free", "briefing/pro"]


@pytest.mark.parametrize("trouble", ["model", "context", "empty"])
async def test_what_is_not_to_be_had_is_left_to_the_click(trouble: str) -> None:
    context = {"alerts": {"url": "https://api.example.com/alerts"}}
    action = {"after": ["user.login"], "model": "fast", "user": "{context.alerts}", "context": context}
    house = House(actions={"briefing": action})
    if trouble != "context":
        house.pages["https://api.example.com/alerts"] = b"[]"

    async def failing() -> None:
        raise Unavailable("away")

    if trouble == "model":
        house.thinking = failing
    if trouble == "empty":
        house.says = lambda: ""
    await house.event("user.login")
    assert house.foresee.failed == 1
    assert len(house.flights) == 0
    assert house.book.pending == 0


async def test_who_is_forgotten_meanwhile_is_not_stored() -> None:
    house = House()

    async def forgotten() -> None:
        house.clock.now += timedelta(days=9999)
        await house.store.forget("acme", "ann")
        await house.log.forget("acme", "ann")

    house.thinking = forgotten
    await house.event("user.login")
    assert await house.store.get("acme", "ann", "briefing") is None
    assert await house.counts() == {}


def test_the_handler_hears_of_what_actions_wait_for_by_user() -> None:
    handler = House(actions={**several(1), "other": {"after": ["page.*"], "model": "fast", "user": "x"}}).foresee.handler()
    assert handler is not None
    subscription = handler.subscription
    assert (subscription.handler, subscription.types, subscription.per) == (HANDLER, ("page.*", "user.login"), "user")
    assert House(actions={"a": {"model": "fast", "user": "x"}}).foresee.handler() is None
