"""Which answer is given when answers are checked, what the client sees of streams, and what is in the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from dispatch_house import AWAY, BREAK, HANG, REFUSES, SILENT, House, Part, WordCheck, read, says, text, text_of, until

from farthing.errors import BudgetExceeded, UpstreamRejected, UpstreamUnavailable
from farthing.routing.checks.check import ANNOTATE, Answered
from farthing.routing.choice import Choice
from farthing.routing.gate import Gate
from farthing.testing.purse import OpenPurse, OpenReservation
from farthing.types import Price, Request, Source

both = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
BAD = says("a ", "bad ", "answer")
GOOD = says("a ", "good ", "answer")
CHEAP, STRONG = 13, 130
"""What three tokens and a prompt of ten cost, in micro-dollars."""


def through(*models: str, checks: tuple[WordCheck, ...] = (), route: str = "rule:r") -> Choice:
    return Choice(models=models, baseline=models[-1], route=route, checks=checks or (WordCheck("bad"),))


@both
async def test_an_answer_that_passes_is_final_and_saves_what_the_baseline_costs(streams: bool) -> None:  # noqa: FBT001
    house = House().model("cheap", [GOOD]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong"), streams=streams)
    assert await text(answer) == "a good answer"
    assert (answer.model, answer.route, answer.checks, answer.source) == ("cheap", "rule:r", "passed", Source.MODEL)
    assert (answer.cost_microusd, answer.saved_microusd) == (CHEAP, STRONG - CHEAP)
    (entry,) = house.ledger.entries
    assert (entry.final, entry.checks, entry.route, entry.cost_microusd, entry.saved_microusd) == (True, "passed", "rule:r", 13, 117)
    assert house.observed == [("cheap", "passed")]
    house.settled()


@both
async def test_an_answer_that_is_rejected_is_not_seen_and_the_next_model_is_asked(streams: bool) -> None:  # noqa: FBT001
    house = House().model("cheap", [BAD]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong"), streams=streams)
    assert await text(answer) == "a good answer"
    assert (answer.model, answer.route, answer.checks) == ("strong", "cascade", "passed")
    assert (answer.cost_microusd, answer.saved_microusd) == (CHEAP + STRONG, -CHEAP)
    assert house.story == [("cheap", None, "failed:bad", False), ("strong", None, "passed", True)]
    first, second = house.ledger.entries
    assert (first.status, first.cost_microusd, first.baseline_microusd, first.saved_microusd) == (200, CHEAP, 0, -CHEAP)
    assert (second.cost_microusd, second.baseline_microusd, second.saved_microusd) == (STRONG, STRONG, 0)
    assert house.observed == [("cheap", "failed:bad"), ("strong", "passed")]
    house.settled()


@both
async def test_the_stronger_of_two_equally_bad_answers_is_given_and_marked(streams: bool) -> None:  # noqa: FBT001
    house = House().model("cheap", [BAD]).model("strong", [says("as bad")])
    answer = await house.ask(through("cheap", "strong"), streams=streams)
    assert await text(answer) == "as bad"
    assert (answer.model, answer.checks) == ("strong", "failed:bad")
    assert house.story == [("cheap", None, "failed:bad", False), ("strong", None, "failed:bad", True)]
    house.settled()


@both
async def test_the_answer_that_came_furthest_through_the_checks_is_given(streams: bool) -> None:  # noqa: FBT001
    checks = (WordCheck("worst"), WordCheck("bad"))
    house = House().model("cheap", [BAD]).model("strong", [says("the worst")])
    answer = await house.ask(through("cheap", "strong", checks=checks), streams=streams)
    assert await text(answer) == "a bad answer"
    assert (answer.model, answer.checks, answer.route) == ("cheap", "failed:bad", "rule:r")
    assert house.story == [
        ("cheap", None, "failed:bad", False),
        ("strong", None, "failed:worst", False),
        (None, None, "failed:bad", True),
    ]
    outcome = house.ledger.entries[-1]
    assert (outcome.attempt, outcome.source, outcome.model_used, outcome.cost_microusd) == (0, "model", "cheap", 0)
    assert outcome.saved_microusd == STRONG, "what the answer would have cost by the baseline"
    spent = CHEAP + 110
    assert sum(one.saved_microusd for one in house.ledger.entries) == STRONG - spent
    assert (answer.cost_microusd, answer.saved_microusd) == (spent, STRONG - spent)
    assert answer.completion is not None
    house.settled()


@both
@pytest.mark.parametrize("trouble", [AWAY, REFUSES], ids=["away", "refuses"])
async def test_a_rejected_answer_is_given_when_the_next_model_fails(streams: bool, trouble: Part) -> None:  # noqa: FBT001
    house = House().model("cheap", [BAD]).model("strong", [trouble])
    answer = await house.ask(through("cheap", "strong"), streams=streams)
    assert await text(answer) == "a bad answer"
    assert (answer.model, answer.checks, answer.cost_microusd) == ("cheap", "failed:bad", CHEAP)
    assert [(one.attempt, one.final, one.error is None) for one in house.ledger.entries] == [
        (1, False, True),
        (2, False, False),
        (0, True, True),
    ]
    house.settled()


@both
async def test_a_rejected_answer_is_given_when_there_is_no_money_for_the_next(streams: bool) -> None:  # noqa: FBT001
    purse = OpenPurse({"strong": BudgetExceeded("spent")})
    house = House(purse=purse, free="free").model("cheap", [BAD]).model("strong", [GOOD]).model("free", [says("free words")])
    answer = await house.ask(through("cheap", "strong"), streams=streams)
    assert await text(answer) == "a bad answer"
    assert house.actors.asked == ["cheap"]
    house.settled()


@both
async def test_a_model_that_fails_is_followed_by_its_fallbacks_and_then_by_the_next_model(streams: bool) -> None:  # noqa: FBT001
    house = House().model("other", [AWAY]).model("cheap", [AWAY], fallbacks=("other",)).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong"), streams=streams)
    assert await text(answer) == "a good answer"
    assert [(one.upstream_model, one.route, one.final) for one in house.ledger.entries] == [
        ("cheap", "rule:r", False),
        ("other", "fallback", False),
        ("strong", "cascade", True),
    ]
    house.settled()


async def test_what_one_model_refuses_another_one_may_take() -> None:
    house = House().model("other", [GOOD]).model("cheap", [REFUSES], fallbacks=("other",)).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong"))
    assert answer.model == "strong"
    assert house.actors.asked == ["cheap", "strong"], "the same request to another deployment of a model that refused it is no use"
    house.settled()


async def test_the_last_error_is_raised_when_all_models_fail() -> None:
    house = House().model("cheap", [AWAY]).model("strong", [REFUSES])
    with pytest.raises(UpstreamRejected):
        await house.ask(through("cheap", "strong"))
    assert [one.final for one in house.ledger.entries] == [False, True]
    house.settled()


async def test_a_spent_budget_before_the_first_answer_is_as_without_a_cascade() -> None:
    refused = BudgetExceeded("spent")
    house = House(purse=OpenPurse({"cheap": refused, "strong": refused}), free="free").model("cheap", [GOOD]).model("strong", [GOOD])
    house.model("free", [says("free words")])
    answer = await house.ask(through("cheap", "strong"))
    assert (await text(answer), answer.route, answer.checks) == ("free words", "budget", "passed")
    house.settled()


@both
async def test_without_checks_the_first_answer_is_given_unmarked(streams: bool) -> None:  # noqa: FBT001
    house = House().model("cheap", [BAD]).model("strong", [GOOD])
    answer = await house.ask(Choice(models=("cheap", "strong"), baseline="strong", route="default"), streams=streams)
    assert await text(answer) == "a bad answer"
    assert (answer.checks, answer.route) == (None, "default")
    assert house.story == [("cheap", None, None, True)]
    house.settled()


# Streams


async def test_a_held_stream_is_replayed_as_it_came() -> None:
    house = House().model("cheap", [GOOD]).model("strong", [GOOD])
    plain = await read(await house.ask(Choice(models=("cheap",), baseline="cheap"), streams=True))
    house.ledger.entries.clear()
    answer = await house.ask(through("cheap", "strong"), streams=True)
    assert await read(answer) == plain
    assert answer.usage == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    assert answer.completion is not None
    assert answer.completion.body["choices"][0]["message"]["content"] == "a good answer"


async def test_a_stream_that_breaks_while_it_is_held_is_taken_over_unseen_and_paid_for() -> None:
    house = House().model("cheap", [says("some", "thing", BREAK)]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong"), streams=True)
    assert await text(answer) == "a good answer"
    broken, given = house.ledger.entries
    assert (broken.error, broken.final, broken.tokens_out, broken.usage_source) == ("upstream_unavailable", False, 3, "estimated")
    assert (given.route, given.final) == ("cascade", True)
    house.settled()


async def test_a_stream_held_for_some_tokens_goes_out_once_its_beginning_passed() -> None:
    check = WordCheck("bad", hold=2)
    house = House().model("cheap", [says("1234", "5678", "9", HANG)]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong", checks=(check,)), streams=True)
    stream = answer.stream
    assert stream is not None
    seen = [await stream.__anext__() for _ in range(4)]
    assert text_of(seen) == "123456789"
    assert check.shown == [("12345678", False)]
    await stream.aclose()
    assert house.story == [("cheap", "client_disconnected", None, True)]
    house.settled()


async def test_what_a_check_says_at_the_end_of_a_released_stream_is_only_told() -> None:
    check = WordCheck("bad", hold=2)
    house = House().model("cheap", [says("1234", "5678", "bad")]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong", checks=(check,)), streams=True)
    assert answer.checks is None
    assert await text(answer) == "12345678bad"
    assert answer.checks == "failed:bad"
    assert house.story == [("cheap", None, "failed:bad", True)]
    assert house.observed == [("cheap", "failed:bad")]
    house.settled()


async def test_a_stream_that_is_rejected_by_its_beginning_is_cut_off_there() -> None:
    check = WordCheck("bad", hold=2)
    house = House().model("cheap", [says("a bad beginning", HANG)]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong", checks=(check,)), streams=True)
    assert await text(answer) == "a good answer"
    rejected = house.ledger.entries[0]
    assert (rejected.checks, rejected.final, rejected.usage_source, rejected.tokens_out) == ("failed:bad", False, "estimated", 4)
    house.settled()


async def test_a_stream_that_was_cut_off_cannot_be_given_after_all() -> None:
    check = WordCheck("bad", hold=2)
    house = House().model("cheap", [says("a bad beginning", HANG)]).model("strong", [AWAY])
    with pytest.raises(UpstreamUnavailable):
        await house.ask(through("cheap", "strong", checks=(check,)), streams=True)
    assert [(one.checks, one.final) for one in house.ledger.entries] == [("failed:bad", False), (None, True)]
    house.settled()


async def test_the_last_model_s_stream_goes_on_marked_when_its_beginning_is_rejected() -> None:
    check = WordCheck("bad", hold=2)
    house = House().model("cheap", [BAD]).model("strong", [says("a bad beginning", " and more")])
    answer = await house.ask(through("cheap", "strong", checks=(check,)), streams=True)
    assert answer.checks == "failed:bad", "known before the head goes out"
    assert await text(answer) == "a bad beginning and more"
    assert house.story[-1] == ("strong", None, "failed:bad", True)
    house.settled()


async def test_a_check_that_annotates_holds_nothing_and_speaks_at_the_end() -> None:
    check = WordCheck("bad", hold=ANNOTATE)
    house = House().model("cheap", [says("a bad ", HANG)]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong", checks=(check,)), streams=True)
    stream = answer.stream
    assert stream is not None
    assert text_of([await stream.__anext__(), await stream.__anext__()]) == "a bad "
    await stream.aclose()
    house.settled()
    house = House().model("cheap", [BAD]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong", checks=(check,)), streams=True)
    assert await text(answer) == "a bad answer"
    assert answer.checks == "failed:bad"
    assert house.story == [("cheap", None, "failed:bad", True)]
    house.settled()


async def test_a_check_that_annotates_streams_rejects_whole_answers() -> None:
    house = House().model("cheap", [BAD]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong", checks=(WordCheck("bad", hold=ANNOTATE),)))
    assert await text(answer) == "a good answer"
    house.settled()


async def test_a_held_stream_is_annotated_too() -> None:
    checks = (WordCheck("never"), WordCheck("bad", hold=ANNOTATE))
    house = House().model("cheap", [BAD]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong", checks=checks), streams=True)
    assert (await text(answer), answer.checks) == ("a bad answer", "failed:bad")
    house.settled()


async def test_what_is_too_long_to_hold_goes_out_unchecked() -> None:
    house = House(gate=Gate(max_held_bytes=2000, timeout_s=5.0)).model("cheap", [says(*["bad"] * 100)]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong"), streams=True)
    assert answer.checks == "unchecked"
    assert await text(answer) == "bad" * 100
    assert house.story == [("cheap", None, "unchecked", True)]
    house.settled()


# Checks that misbehave, and clients that leave


class Waiting(OpenPurse):
    """Never comes to a decision about one model."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.asked = False
        self._model = model

    async def reserve(self, request: Request, upstream_model: str, price: Price) -> OpenReservation:
        if upstream_model == self._model:
            self.asked = True
            await asyncio.Event().wait()
        return await super().reserve(request, upstream_model, price)


class Broken(WordCheck):
    """Raises, which no check may."""

    async def judge(self, answered: Answered) -> str | None:
        raise ValueError(answered.model)


@both
@pytest.mark.parametrize("check", [Broken("x"), WordCheck("bad", delay_s=9)], ids=["raises", "late"])
async def test_a_check_that_cannot_speak_costs_no_answer(streams: bool, check: WordCheck) -> None:  # noqa: FBT001
    house = House(gate=Gate(max_held_bytes=2**20, timeout_s=0.01)).model("cheap", [BAD]).model("strong", [GOOD])
    answer = await house.ask(through("cheap", "strong", checks=(check,)), streams=streams)
    assert (await text(answer), answer.checks) == ("a bad answer", "unchecked")
    house.settled()


async def _leave(house: House, choice: Choice, when: Callable[[], object], *, streams: bool) -> None:
    task = asyncio.ensure_future(house.ask(choice, streams=streams))
    await until(when)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@both
async def test_a_client_that_leaves_during_the_second_attempt_pays_for_both(streams: bool) -> None:  # noqa: FBT001
    house = House().model("cheap", [BAD]).model("strong", [SILENT])
    await _leave(house, through("cheap", "strong"), lambda: house.actors.standing, streams=streams)
    assert house.story == [("cheap", None, "failed:bad", False), ("strong", "client_disconnected", None, True)]
    house.settled()


@both
async def test_a_client_that_leaves_while_an_answer_is_checked_pays_for_it(streams: bool) -> None:  # noqa: FBT001
    house = House().model("cheap", [GOOD]).model("strong", [GOOD])
    check = WordCheck("bad", delay_s=9)
    await _leave(house, through("cheap", "strong", checks=(check,)), lambda: check.shown, streams=streams)
    (entry,) = house.ledger.entries
    assert (entry.error, entry.final, entry.cost_microusd, entry.usage_source) == ("client_disconnected", True, CHEAP, "provider")
    house.settled()


async def test_a_client_that_leaves_while_a_beginning_is_checked_cuts_the_stream_off() -> None:
    check = WordCheck("bad", hold=2, delay_s=9)
    house = House().model("cheap", [says("12345678", HANG)]).model("strong", [GOOD])
    await _leave(house, through("cheap", "strong", checks=(check,)), lambda: check.shown, streams=True)
    assert house.story == [("cheap", "client_disconnected", None, True)]
    house.settled()


@both
async def test_a_client_that_leaves_between_two_models_is_recorded_once(streams: bool) -> None:  # noqa: FBT001
    waiting = Waiting("strong")
    house = House(purse=waiting).model("cheap", [BAD]).model("strong", [GOOD])
    await _leave(house, through("cheap", "strong"), lambda: waiting.asked, streams=streams)
    assert house.story == [("cheap", None, "failed:bad", False), (None, "client_disconnected", None, True)]
    house.settled()


async def test_a_client_that_leaves_a_held_stream_cuts_it_off() -> None:
    house = House().model("cheap", [says("12345678", HANG)]).model("strong", [GOOD])
    await _leave(house, through("cheap", "strong"), lambda: house.actors.standing, streams=True)
    (entry,) = house.ledger.entries
    assert (entry.error, entry.final, entry.tokens_out) == ("client_disconnected", True, 2)
    house.settled()


async def test_an_observer_that_raises_costs_no_answer() -> None:
    house = House().model("cheap", [GOOD])
    house.observed = None  # type: ignore[assignment]
    assert (await house.ask(through("cheap"))).checks == "passed"
    house.settled()
