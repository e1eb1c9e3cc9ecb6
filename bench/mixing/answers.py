"""What the scripted models answer: right or wrong as the data say, and wrong in ways that a check can see where that is assumed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

import msgspec

from farthing.pipeline.tokens import count_request
from farthing.settings import JudgeCheckSettings
from farthing.testing.echo import Received, last_user_text
from farthing.testing.quality import in_share
from farthing.testing.replies import Reply, completion, usage_object
from mixing.questions import Question

ANSWER_TOKENS, VERDICT_TOKENS = 200, 8
"""So long is each answer on the bill, and each judge's. A judge's bill is its own prompt, and that."""
JUDGE = JudgeCheckSettings(kind="judge", model="judge")
_REFUSAL = "I'm sorry, but I can't help with that."
_MARKED = re.compile(r'"answer": "(right|wrong) ([0-9a-f]{16})"')


class Assumed(msgspec.Struct, frozen=True):
    """What the data do not tell: which share of the weak model's wrong answers a check rejects, and of its right ones (false alarms).

    `judged`: by a model that is asked; else by the form of the answer.
    """

    seen: float = 0.0
    alarms: float = 0.0
    judged: bool = False

    def rejects(self, question: Question) -> bool:
        """Whether the check rejects what the weak model says. By chance, but always the same."""
        if question.weak:
            return self.judged and in_share(f"alarm {question.prompt}", self.alarms)
        return in_share(f"seen {question.prompt}", self.seen)


def right(question: Question) -> str:
    return f'{{"answer": "right {question.name}"}}'


def wrong(question: Question) -> str:
    return f'{{"answer": "wrong {question.name}"}}'


class Models:
    """Answers of a `ScriptedUpstream`, for both models and for the judge, which is the weak one."""

    def __init__(self, questions: Mapping[str, Question], assumed: Assumed) -> None:
        self._questions = questions
        self._named = {question.name: question for question in questions.values()}
        self._assumed = assumed

    def weak(self, received: Received) -> Reply:
        if (received.body["response_format"]).get("type") == "json_schema":
            return self._verdict(received)
        question = self._questions[last_user_text(received.body)]
        if question.weak:
            return _said(received, right(question))
        if self._assumed.judged or not self._assumed.rejects(question):
            return _said(received, wrong(question))
        return _spoilt(received, wrong(question))

    def strong(self, received: Received) -> Reply:
        question = self._questions[last_user_text(received.body)]
        return _said(received, right(question) if question.strong else wrong(question))

    def _verdict(self, received: Received) -> Reply:
        found = _MARKED.search(last_user_text(received.body))
        assert found, "the judge is shown an answer"
        bad = self._assumed.rejects(self._named[found[2]])
        return _said(received, f'{{"score": {2 if bad else 9}}}', tokens=VERDICT_TOKENS)


def _spoilt(received: Received, document: str) -> Reply:
    """A wrong answer as models spoil it."""
    flaws = (f"```json\n{document}\n```", f"Sure! Here it is: {document}", f"{document[:-1]},}}", "", _REFUSAL, document[:-9])
    text = flaws[hashlib.sha256(document.encode()).digest()[0] % len(flaws)]
    return _said(received, text, finish_reason="length" if text == flaws[-1] else None)


def _said(received: Received, text: str, *, tokens: int = ANSWER_TOKENS, finish_reason: str | None = None) -> Reply:
    usage = usage_object(count_request(received.body), tokens)
    return completion(text, usage=usage, model=received.model or "", finish_reason=finish_reason)
