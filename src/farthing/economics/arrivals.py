"""Who asks what, and when: a load over time as a Poisson process, and the conversations that it brings.

Arrivals follow a piecewise constant rate (requests a second). Lengths are log-normal, as those of real prompts and answers are about;
or prompts come from the user's own traffic.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import Json

_TEXT = (
    "the order arrived late and I would like to know what can be done about it because we need all of the parts for our "
    "customers before the end of this week please explain each step in detail and say which documents are needed"
)
_WORDS = tuple(_TEXT.split())
_QUESTION_TOKENS, _QUESTION_SPREAD = 120.0, 0.9
_ANSWER_TOKENS, _ANSWER_SPREAD = 300.0, 0.7
_LONGEST_ANSWER = 4000
_LONGEST_TEXT = 20_000
_MOST_TURNS = 12
_GOES_ON = 0.55
"""How likely a conversation has one more turn."""
_TOKENS_PER_WORD = 1.3


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests a second from a time (seconds) on, until the next one begins; the last one ends all. Times ascend from 0."""

    steps: tuple[tuple[float, float], ...]

    @property
    def ends_at(self) -> float:
        """When there is nothing more to come."""
        return self.steps[-1][0]

    @property
    def expected(self) -> float:
        """How many requests come in the mean."""
        return sum(rate * (end - start) for (start, rate), (end, _) in pairwise(self.steps))

    def arrivals(self, rng: random.Random) -> Iterator[float]:
        """Times in order. Within a step gaps are exponential, and a process without memory may begin anew at each step."""
        for (start, rate), (end, _) in pairwise(self.steps):
            at = start
            while rate > 0:
                at += rng.expovariate(rate)
                if at >= end:
                    break
                yield at


def spike(base_per_s: float, factor: float, *, before_s: float, lasts_s: float, after_s: float) -> Load:
    """A base load, which is for a while `factor` times as high, and then as before."""
    began, over = before_s, before_s + lasts_s
    return Load(steps=((0.0, base_per_s), (began, base_per_s * factor), (over, base_per_s), (over + after_s, 0.0)))


class Sample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A conversation up to its last question, and how long (tokens) the answer will be if nothing cuts it."""

    messages: list[Json]
    answer_tokens: int


def invented(rng: random.Random, most: int) -> list[Sample]:
    """Conversations out of nothing: a system prompt, one to twelve turns, lengths log-normal."""
    found = []
    for _ in range(most):
        questions = [_text(rng, _QUESTION_TOKENS, _QUESTION_SPREAD)]
        while len(questions) < _MOST_TURNS and rng.random() < _GOES_ON:
            questions.append(_text(rng, _QUESTION_TOKENS, _QUESTION_SPREAD))
        found.append(_conversation(rng, questions))
    return found


def of_rows(rows: Sequence[Mapping[str, object]], rng: random.Random, most: int) -> list[Sample]:
    """Conversations of the user's own traffic: rows `{turns: [...]}`, the questions of one conversation. Raises `InvalidRequest`."""
    conversations = []
    for number, row in enumerate(rows, 1):
        turns = row.get("turns")
        if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
            raise InvalidRequest(f"row {number} of the traffic has no turns: rows are {{turns: [the questions of a conversation]}}")
        conversations.append([turn[:_LONGEST_TEXT] for turn in turns[:_MOST_TURNS]])
    if not conversations:
        raise InvalidRequest("the traffic has no rows")
    chosen = rng.sample(conversations, most) if len(conversations) > most else conversations
    return [_conversation(rng, turns) for turns in chosen]


def _conversation(rng: random.Random, questions: Sequence[str]) -> Sample:
    messages: list[Json] = [{"role": "system", "content": "You answer questions of our customers, briefly and kindly."}]
    for question in questions[:-1]:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": _text(rng, _ANSWER_TOKENS, _ANSWER_SPREAD)})
    messages.append({"role": "user", "content": questions[-1]})
    answer = _tokens(rng, _ANSWER_TOKENS, _ANSWER_SPREAD)
    return Sample(messages=messages, answer_tokens=answer)


def _text(rng: random.Random, median: float, spread: float) -> str:
    words = max(round(_tokens(rng, median, spread) / _TOKENS_PER_WORD), 1)
    start = rng.randrange(len(_WORDS))
    return " ".join(_WORDS[(start + at) % len(_WORDS)] for at in range(words))


def _tokens(rng: random.Random, median: float, spread: float) -> int:
    return min(max(round(rng.lognormvariate(math.log(median), spread)), 1), _LONGEST_ANSWER)
