"""The small checks, each by table: empty, cut off, loops, patterns, confidence."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from looking import answered, calling, check, completion

from farthing.routing.checks.compile import KINDS
from farthing.routing.checks.confidence import without_logprobs
from farthing.routing.checks.placed import Undecided, logprobs_wanted
from farthing.routing.checks.repetition import loop_in
from farthing.settings import (
    ConfidenceCheckSettings,
    EmptyCheckSettings,
    PatternCheckSettings,
    RepetitionCheckSettings,
    TruncatedCheckSettings,
)
from farthing.types import DEEP, Json

EMPTY = EmptyCheckSettings(kind="empty")
TRUNCATED = TruncatedCheckSettings(kind="truncated")
REPETITION = RepetitionCheckSettings(kind="repetition")


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        (completion(""), True),
        (completion(None), True),
        (completion(" \n\t\u200b\ufeff\u3000"), True),
        (completion("Hello", ""), True),
        ({"choices": []}, True),
        ({}, True),
        (completion("."), False),
        (completion("0"), False),
        (completion(None, refusal="No."), False),
        (calling("search", "{}"), False),
        (completion(None, audio={"id": "a"}), False),
        ({"choices": [{"message": {"content": [{"type": "text", "text": "parts"}]}}]}, False),
        ({"choices": [{"message": {"content": [{"type": "text", "text": " "}]}}]}, True),
        ({"choices": [{"message": {"content": None, "function_call": {"name": "f", "arguments": "{}"}}}]}, False),
    ],
)
async def test_an_answer_that_says_nothing_is_empty(body: Json, rejected: bool) -> None:  # noqa: FBT001 - a table
    assert (await check(EMPTY).judge(answered(body)) is not None) is rejected


async def test_a_beginning_is_never_empty_since_more_may_come() -> None:
    assert await check(EMPTY).judge(answered(completion("", finish=None), whole=False)) is None


async def test_a_least_length_counts_what_shows() -> None:
    least = check(EmptyCheckSettings(kind="empty", min_chars=10))
    assert await least.judge(answered(completion("too short" + " " * 50))) == "fewer than 10 characters"
    assert await least.judge(answered(completion("ten chars!"))) is None
    assert (least.hold, check(EmptyCheckSettings(kind="empty", min_chars=500)).hold) == (10, 500)


@pytest.mark.parametrize(
    ("finish", "asked", "usage", "rejected"),
    [
        ("stop", {}, None, False),
        ("tool_calls", {}, None, False),
        (None, {}, None, False),
        ("length", {}, None, True),
        ("length", {"max_tokens": 10}, {"completion_tokens": 10}, False),
        ("length", {"max_completion_tokens": 10}, {"completion_tokens": 12}, False),
        ("length", {"max_tokens": 10}, None, False),
        ("length", {"max_tokens": 1000}, {"completion_tokens": 300}, True),
        ("length", {"max_tokens": None}, {"completion_tokens": 300}, True),
        ("length", {"max_tokens": "ten"}, {"completion_tokens": 300}, True),
        ("content_filter", {}, None, True),
        ("content_filter", {"max_tokens": 10}, {"completion_tokens": 10}, True),
    ],
)
async def test_a_cut_answer_is_the_models_fault_unless_the_caller_wished_it(
    finish: str | None,
    asked: Json,
    usage: Json | None,
    rejected: bool,  # noqa: FBT001 - a table
) -> None:
    said = await check(TRUNCATED).judge(answered(completion("The", finish=finish, usage=usage), asked))
    assert (said is not None) is rejected


async def test_what_the_mode_cuts_off_is_no_models_fault() -> None:
    cut = answered(completion("The", finish="length", usage={"completion_tokens": 300}))
    assert await check(TRUNCATED).judge(cut) is not None
    cut.request.mode = msgspec.structs.replace(DEEP, max_tokens=300)
    assert await check(TRUNCATED).judge(cut) is None


async def test_the_callers_own_limit_can_count_too() -> None:
    strict = check(TruncatedCheckSettings(kind="truncated", own_limit="reject"))
    cut = completion("The", finish="length", usage={"completion_tokens": 10})
    assert await strict.judge(answered(cut, {"max_tokens": 10})) == "cut off by the token limit"


LOOPS = {
    "a word": "no " * 100,
    "a letter": "The answer is" + "!" * 200,
    "a sentence": "Let me think. " + "I should check the value again. " * 12,
    "a paragraph": "Intro.\n\n" + ("The sea is deep and blue, and ships sail on it, day after day. It never ends. " * 9),
    "an unfinished round": "Start. " + "alpha beta gamma delta " * 12 + "alpha be",
    "a line, then an end": "- buy milk at the shop\n" * 10 + "Done, and thank you for reading this far.",
    "a loop that it left again": "Well. " + "I think that the answer is the answer to it. " * 200 + "So it is 42.",
    "Japanese": "今日は天気がいいです。" * 20,
}
TEXTS = {
    "prose": "The capital of France is Paris, which lies on the Seine. It has two million inhabitants, and museums, parks and markets. "
    * 2,
    "a rule": "Title\n" + "=" * 79 + "\n\nBody",
    "a table": "| a | b |\n|---|---|\n" + "| 0 | 0 |\n" * 6,
    "numbers": "\n".join(str(at) for at in range(1000)),
    "objects": str([{"id": at, "name": f"user {at}", "email": f"u{at}@example.com", "active": True} for at in range(200)]),
    "markup": "".join(f'<div class="row"><span class="name">item {at * 37 % 101}</span></div>\n' for at in range(200)),
    "code": "\n".join(f"    assert f({at}) == {at * at}" for at in range(100)),
    "closing brackets": "f(\n" + "}\n" * 30,
    "a chorus": "Row, row, row your boat, gently down the stream.\nMerrily, merrily, merrily, merrily, life is but a dream.\n" * 4,
    "indents": "if a:\n" + " " * 150 + "x",
    "short": "ha ha ha ha ha ha ha ha",
}


@pytest.mark.parametrize("text", LOOPS.values(), ids=LOOPS.keys())
async def test_a_loop_is_seen(text: str) -> None:
    assert await check(REPETITION).judge(answered(completion(text))) is not None


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_a_text_with_a_pattern_is_no_loop(text: str) -> None:
    assert await check(REPETITION).judge(answered(completion(text))) is None


async def test_a_loop_in_the_arguments_of_a_tool_is_seen() -> None:
    assert await check(REPETITION).judge(answered(calling("f", '{"a": [' + "0, " * 200))) is not None


@given(
    before=st.text(max_size=200), unit=st.text(min_size=1, max_size=60).filter(lambda unit: unit.strip() != ""), times=st.integers(8, 30)
)
def test_whatever_is_repeated_to_the_end_is_found(before: str, unit: str, times: int) -> None:
    text = (before + "|" + unit * (times + 160 // len(unit) + 1)).rstrip()
    assert loop_in(text, times=8, min_ratio=0.03) is not None


@given(st.lists(st.integers(0, 10**9), min_size=10, max_size=60, unique=True))
def test_what_differs_every_time_is_no_loop(numbers: list[int]) -> None:
    text = "\n".join(f"Order {number} was sent to customer {number * 7919 % 1_000_003}." for number in numbers)
    assert loop_in(text, times=8, min_ratio=0.03) is None


@pytest.mark.parametrize(
    ("settings", "text", "rejected"),
    [
        ({"must_match": r"^\d{4}-\d\d-\d\d$"}, "2026-11-28", False),
        ({"must_match": r"^\d{4}-\d\d-\d\d$"}, "on 2026-11-28", True),
        ({"must_match": "(?i)total"}, "The TOTAL is 5", False),
        ({"must_not_match": r"\bTODO\b"}, "x = 1  # TODO", True),
        ({"must_not_match": r"\bTODO\b"}, "TODOS", False),
        ({"must_match": "a", "must_not_match": "b"}, "ab", True),
        ({"must_match": "a"}, "", True),
    ],
)
async def test_a_pattern_is_searched_in_the_text(settings: Any, text: str, rejected: bool) -> None:  # noqa: FBT001 - a table
    pattern = check(PatternCheckSettings(kind="pattern", **settings))
    assert (await pattern.judge(answered(completion(text))) is not None) is rejected


async def test_of_a_beginning_only_what_must_not_be_there_can_be_told() -> None:
    pattern = check(PatternCheckSettings(kind="pattern", must_match="end", must_not_match="bad", hold=20))
    assert await pattern.judge(answered(completion("so far", finish=None), whole=False)) is None
    assert await pattern.judge(answered(completion("so bad", finish=None), whole=False)) == "it matches must_not_match"


async def test_a_catastrophic_pattern_is_searched_in_linear_time() -> None:
    pattern = check(PatternCheckSettings(kind="pattern", must_match="^(a+)+$"))
    assert (
        await pattern.judge(answered(completion("a" * 40_000 + "!"))) == "it does not match must_match"
    )  # with `re` it would take for ever


async def test_a_text_is_searched_as_far_as_the_size_of_the_pattern_allows() -> None:
    undecided = Undecided(KINDS)
    large = check(PatternCheckSettings(kind="pattern", must_match="x[ab]{900}", must_not_match="bad"), undecided)
    assert await large.judge(answered(completion("x" + "a" * 900 + "b" * 60_000))) is None
    assert undecided.counts["pattern"] == 1, "of must_not_match 50,000 characters were searched"
    assert await large.judge(answered(completion("a" * 4000 + "bad" + "b" * 60_000))) == "it matches must_not_match"
    assert await large.judge(answered(completion("a" * 4000))) is None
    assert undecided.counts["pattern"] == 2
    assert await large.judge(answered(completion("a" * 1000))) == "it does not match must_match"


def likely(*values: Any) -> Json:
    body = completion("word " * len(values))
    body["choices"][0]["logprobs"] = {"content": [{"token": "w", "logprob": value} for value in values]}
    return body


@pytest.mark.parametrize(
    ("values", "bounds", "rejected"),
    [
        ([-0.1, -0.2], {"min_mean": -0.5}, False),
        ([-0.1, -2.0], {"min_mean": -0.5}, True),
        ([-0.01] * 19 + [-6.0], {"min_mean": -0.5}, False),
        ([-0.01] * 19 + [-6.0], {"min_decile": -2.0}, True),
        ([-0.01] * 20, {"min_decile": -2.0, "min_mean": -0.1}, False),
        ([-9999.0, *[-0.01] * 999], {"min_mean": -0.2}, False),
        (["x", None, True, float("nan"), -0.1], {"min_mean": -0.5}, False),
    ],
)
async def test_confidence_is_read_from_log_probabilities(values: Any, bounds: Any, rejected: bool) -> None:  # noqa: FBT001 - a table
    confidence = check(ConfidenceCheckSettings(kind="confidence", **bounds))
    assert (await confidence.judge(answered(likely(*values))) is not None) is rejected


def test_what_is_hidden_leaves_the_rest_as_it_was() -> None:
    body = likely(-0.1)
    shown = without_logprobs(body)
    assert shown == {**body, "choices": [{**body["choices"][0], "logprobs": None}]}
    assert body["choices"][0]["logprobs"] is not None, "the check still reads it"
    assert without_logprobs({"object": "x"}) == {"object": "x"}


def test_models_are_asked_only_where_a_check_names_them() -> None:
    asking = check(ConfidenceCheckSettings(kind="confidence", min_mean=-1, ask=True, models=["weak"]))
    silent = check(ConfidenceCheckSettings(kind="confidence", min_mean=-1, models=["weak"]))
    assert logprobs_wanted([silent, asking], "weak")
    assert not logprobs_wanted([silent, asking], "strong")
    assert not logprobs_wanted([silent], "weak")


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": "x"}, {"content": [1, "x", {}]}, "x", []])
async def test_without_log_probabilities_it_passes_and_is_counted(logprobs: Any) -> None:
    undecided = Undecided(KINDS)
    body = completion("Paris.")
    body["choices"][0]["logprobs"] = logprobs
    assert await check(ConfidenceCheckSettings(kind="confidence", min_mean=-1), undecided).judge(answered(body)) is None
    assert undecided.counts["confidence"] == 1
