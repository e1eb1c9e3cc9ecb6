"""What bench/mixed.py measures with: workloads of the right mix, answers that fail as they are meant to, and a replay that counts right."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from looking import answered

sys.path.append(str(Path(__file__).parents[3] / "bench"))  # they are a script's, not a part of the package

from farthing.pipeline.tokens import count_request
from farthing.routing.checks.compile import KINDS, checks_of_request
from farthing.routing.checks.judge import prompt_for
from farthing.routing.checks.placed import Undecided
from farthing.routing.learned.outcomes import Row
from farthing.spend.prices import cost
from farthing.testing.echo import Received
from farthing.types import Json, Price, Usage
from mixing.answers import ANSWER_TOKENS, JUDGE, Assumed, Models, right, wrong
from mixing.questions import STRONG, WEAK, Question, body_of, halves, mixed
from mixing.replay import Workload
from mixing.serving import CHECKS

ROW = Row(vector=b"", features=(), scores={})
PRICES = {WEAK: Price(input=700_000, output=700_000), STRONG: Price(input=10_000_000, output=30_000_000)}
VERDICTS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
SEEN = Assumed(0.5)


def _questions(verdicts: list[tuple[bool, bool]]) -> list[Question]:
    return [Question(prompt=f"Question {at}?", weak=weak, strong=strong, row=ROW) for at, (weak, strong) in enumerate(verdicts)]


def _bill(model: str, questions: list[Question]) -> int:
    return sum(cost(PRICES[model], Usage(input=count_request(body_of(one.prompt)), output=ANSWER_TOKENS)) for one in questions)


HARD = _questions([(False, True)] * 200)


@given(VERDICTS, st.integers(0, 9), st.integers(1, 80))
def test_four_in_five_of_a_workload_are_easy_and_none_comes_twice(verdicts: list[tuple[bool, bool]], seed: int, most: int) -> None:
    questions = _questions(verdicts)
    found = mixed(questions, seed, most)
    assert len(found) <= most
    assert len({one.prompt for one in found}) == len(found)
    assert abs(sum(one.weak for one in found) - 0.8 * len(found)) <= 0.5


@given(VERDICTS, st.integers(0, 9))
def test_no_question_is_learnt_from_and_asked(verdicts: list[tuple[bool, bool]], seed: int) -> None:
    questions = _questions(verdicts)
    learnt, unseen = halves(questions, seed)
    assert sorted(one.prompt for one in learnt + unseen) == sorted(one.prompt for one in questions)


@given(VERDICTS)
def test_whoever_answers_everything_is_as_often_right_as_the_data_say(verdicts: list[tuple[bool, bool]]) -> None:
    work = Workload(_questions([*verdicts, (False, True)]), PRICES)
    everywhere = np.ones(len(work.questions), bool)
    strong, weak = work.played(~everywhere), work.played(everywhere)
    assert (strong.kept, strong.saved, strong.strong_share) == (1, 0, 1)
    assert weak.accuracy == pytest.approx(sum(one.weak for one in work.questions) / len(work.questions))
    assert (weak.strong_share, weak.microusd < strong.microusd / 10) == (0, True)


@given(VERDICTS)
def test_a_check_that_sees_all_leaves_what_no_model_knows_and_is_paid_for_twice(verdicts: list[tuple[bool, bool]]) -> None:
    work = Workload(_questions([*verdicts, (False, True)]), PRICES)
    everywhere = np.ones(len(work.questions), bool)
    found, judged = work.played(everywhere, Assumed(1.0)), work.played(everywhere, Assumed(1.0, 0.0, judged=True))
    assert found.accuracy == pytest.approx(sum(one.weak or one.strong for one in work.questions) / len(work.questions))
    assert found.microusd == work.played(everywhere).microusd + _bill(STRONG, [one for one in work.questions if not one.weak])
    assert judged.microusd > found.microusd


async def _rejected(answer: Json) -> bool:
    checks = checks_of_request(CHECKS, Undecided(KINDS))
    return any([await check.judge(answered(answer, body_of("Question?"), model=WEAK)) is not None for check in checks])


def _received(body: Json) -> Received:
    return Received(method="POST", path="/v1/chat/completions", headers={}, body=body, at=0)


async def test_wrong_answers_are_rejected_by_the_real_checks_just_where_it_is_assumed() -> None:
    models = Models({one.prompt: one for one in HARD}, SEEN)
    for one in HARD:
        answer = models.weak(_received(body_of(one.prompt))).json
        assert await _rejected(answer) is SEEN.rejects(one), answer
        assert not await _rejected(models.strong(_received(body_of(one.prompt))).json)
    assert 60 < sum(map(SEEN.rejects, HARD)) < 140


@pytest.mark.parametrize("said", [right, wrong])
def test_the_judge_takes_right_answers_for_wrong_as_often_as_is_assumed(said: object) -> None:
    questions = _questions([(said is right, True)] * 400)
    assumed = Assumed(0.5, 0.1, judged=True)
    models = Models({one.prompt: one for one in questions}, assumed)
    scores = []
    for one in questions:
        body = prompt_for(JUDGE, one.prompt, said(one), mark="0")  # type: ignore[operator]
        scores.append(models.weak(_received(body)).json["choices"][0]["message"]["content"])
    assert scores.count('{"score": 2}') == sum(map(assumed.rejects, questions))
    assert abs(scores.count('{"score": 2}') - (40 if said is right else 200)) < 30
