"""A second call beside a slow one: who wins, what the loser costs, and how often it may be."""

from __future__ import annotations

import asyncio

import pytest
from dispatch_house import AWAY, REFUSES, SILENT, House, Part, WordCheck, says, text, until
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import BudgetExceeded, UpstreamUnavailable
from farthing.routing.choice import Choice
from farthing.routing.hedging import Allowance, Hedge
from farthing.testing.purse import OpenPurse, OpenReservation
from farthing.types import Price, Request

both = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
SLOW = says("slow ", "answer", delay_s=0.2)
FAST = says("fast ", "answer")
FAILS_LATE = Part(delay_s=0.05, error=UpstreamUnavailable)


def hedge(*, after_s: float = 0.01, share: float = 1.0, same: bool = False) -> Hedge:
    return Hedge(after_s=after_s, allowance=Allowance(share), same=same)


@both
async def test_the_faster_one_is_given_and_the_slow_one_cut_off_and_paid_for(streams: bool) -> None:  # noqa: FBT001
    house = House().model("fast", [SILENT], [FAST], hedge=hedge())
    answer = await house.ask(None, streams=streams)
    assert house.actors.open == int(streams), "the loser's connection is closed before the winner's answer is read"
    assert await text(answer) == "fast answer"
    assert (answer.route, answer.checks) == ("hedge", None)
    lost, won = sorted(house.ledger.entries, key=lambda one: one.attempt)
    assert (lost.upstream_model, lost.status, lost.error, lost.final, lost.usage_source) == ("fast", 499, "hedge_lost", False, "estimated")
    assert (won.upstream_model, won.error, won.final, won.route) == ("fast-2", None, True, "hedge")
    assert lost.cost_microusd > 0
    assert (lost.saved_microusd, lost.baseline_microusd) == (-lost.cost_microusd, 0)
    assert answer.cost_microusd == lost.cost_microusd + won.cost_microusd
    house.settled()


@both
async def test_the_first_one_wins_when_the_second_is_slower_still(streams: bool) -> None:  # noqa: FBT001
    house = House().model("fast", [says("slow", delay_s=0.05)], [SILENT], hedge=hedge())
    answer = await house.ask(None, streams=streams)
    assert await text(answer) == "slow"
    assert answer.route == "direct"
    assert house.story[0] == ("fast-2", "hedge_lost", None, False)
    assert house.story[1] == ("fast", None, None, True)
    house.settled()


@both
async def test_who_answers_in_time_is_asked_once(streams: bool) -> None:  # noqa: FBT001
    house = House().model("fast", [FAST], [FAST], hedge=hedge(after_s=5))
    assert await text(await house.ask(None, streams=streams)) == "fast answer"
    assert house.actors.asked == ["fast"]
    house.settled()


async def test_a_first_one_that_fails_before_its_time_goes_the_usual_way() -> None:
    house = House().model("fast", [AWAY], [FAST], hedge=hedge(after_s=5))
    answer = await house.ask(None)
    assert (await text(answer), answer.route) == ("fast answer", "fallback")
    house.settled()


async def test_the_same_deployment_is_asked_again_only_where_that_is_wanted() -> None:
    for same in (False, True):
        house = House().model("fast", [SLOW, FAST], hedge=hedge(same=same))
        answer = await house.ask(None)
        assert await text(answer) == ("fast answer" if same else "slow answer")
        assert house.actors.asked == ["fast"] * (2 if same else 1)
        house.settled()


@both
async def test_both_failing_is_a_failure_like_any_other(streams: bool) -> None:  # noqa: FBT001
    house = House().model("fast", [FAILS_LATE], [AWAY], [FAST], hedge=hedge())
    answer = await house.ask(None, streams=streams)
    assert (await text(answer), answer.route) == ("fast answer", "fallback")
    assert [(one.upstream_model, one.final) for one in house.ledger.entries] == [("fast-2", False), ("fast", False), ("fast-3", True)]
    house.settled()


@both
async def test_the_last_error_of_both_is_raised(streams: bool) -> None:  # noqa: FBT001
    house = House().model("fast", [FAILS_LATE], [REFUSES], hedge=hedge())
    with pytest.raises(UpstreamUnavailable):
        await house.ask(None, streams=streams)
    assert [(one.upstream_model, one.final) for one in house.ledger.entries] == [("fast-2", False), ("fast", True)]
    house.settled()


async def test_an_error_of_one_waits_for_the_other() -> None:
    house = House().model("fast", [says("slow", delay_s=0.05)], [REFUSES], hedge=hedge())
    assert await text(await house.ask(None)) == "slow"
    assert [(one.upstream_model, one.final) for one in house.ledger.entries] == [("fast-2", False), ("fast", True)]
    house.settled()


@both
async def test_a_client_that_leaves_cuts_off_both(streams: bool) -> None:  # noqa: FBT001
    house = House().model("fast", [SILENT], [SILENT], hedge=hedge())
    task = asyncio.ensure_future(house.ask(None, streams=streams))
    await until(lambda: house.actors.standing == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(one.error, one.final) for one in house.ledger.entries] == [("client_disconnected", False), ("client_disconnected", True)]
    house.settled()


async def test_a_hedge_is_never_sent_beyond_the_budget() -> None:
    purse = OpenPurse({"fast-2": BudgetExceeded("spent")})
    house = House(purse=purse).model("fast", [SLOW], [FAST], hedge=hedge())
    assert await text(await house.ask(None)) == "slow answer"
    assert house.actors.asked == ["fast"]
    house.settled()


class SlowPurse(OpenPurse):
    """Takes its time for the second reservation."""

    async def reserve(self, request: Request, upstream_model: str, price: Price) -> OpenReservation:
        if upstream_model == "fast-2":
            await asyncio.sleep(1)
        return await super().reserve(request, upstream_model, price)


async def test_leave_to_spend_that_takes_long_is_given_up_when_the_answer_is_there() -> None:
    house = House(purse=SlowPurse()).model("fast", [says("slow", delay_s=0.03)], [FAST], hedge=hedge())
    assert await text(await house.ask(None)) == "slow"
    house.settled()


async def test_a_fallback_is_no_rival() -> None:
    house = House().model("other", [FAST]).model("fast", [SLOW], fallbacks=("other",), hedge=hedge())
    assert await text(await house.ask(None, model="fast")) == "slow answer"
    assert house.actors.asked == ["fast"]
    house.settled()


async def test_what_we_ask_on_our_own_account_is_not_asked_twice() -> None:
    house = House().model("fast", [SLOW], [FAST], hedge=hedge())
    request = house.request(None, streams=False)
    request.purpose = "verify"
    assert await text(await house.send(request)) == "slow answer"
    assert house.actors.asked == ["fast"]


async def test_a_deployment_that_is_left_alone_is_not_asked_beside_another() -> None:
    house = House().model("fast", [SLOW], [FAST], hedge=hedge())
    cooldown = house.models[0].deployments[1].cooldown
    for _ in range(1000):
        cooldown.failed(UpstreamUnavailable("away"))
    assert cooldown.active
    assert await text(await house.ask(None)) == "slow answer"
    house.settled()


async def test_a_lost_race_says_nothing_about_a_deployment() -> None:
    house = House().model("fast", [SILENT], [FAST], hedge=hedge())
    for one in house.models[0].deployments:
        one.cooldown._limit = 1
    await house.ask(None)
    assert not any(one.cooldown.active for one in house.models[0].deployments)


@both
async def test_the_winner_is_checked_like_any_answer(streams: bool) -> None:  # noqa: FBT001
    house = House().model("cheap", [SILENT], [says("bad")], hedge=hedge()).model("strong", [FAST])
    choice = Choice(models=("cheap", "strong"), baseline="strong", checks=(WordCheck("bad"),))
    assert await text(await house.ask(choice, streams=streams)) == "fast answer"
    assert sorted((one.checks or "", one.error or "") for one in house.ledger.entries) == [
        ("", "hedge_lost"),
        ("failed:bad", ""),
        ("passed", ""),
    ]
    house.settled()


async def test_a_share_of_the_requests_is_hedged() -> None:
    house = House().model("fast", [says("slow", delay_s=0.02)], [FAST], hedge=hedge(share=0.25, after_s=0.001))
    for _ in range(8):
        await house.ask(None)
    assert len(house.actors.asked) == 8 + 2


@given(st.floats(min_value=0.001, max_value=1), st.lists(st.booleans(), max_size=300))
def test_no_more_than_the_share_is_ever_allowed(share: float, wants: list[bool]) -> None:
    allowance = Allowance(share)
    taken = 0
    for at, wanted in enumerate(wants, start=1):
        allowance.count()
        taken += wanted and allowance.take()
        assert taken <= share * at + 0.001
