"""LoCoMo's own JSON (Maharana et al. 2024, https://github.com/snap-research/locomo): long conversations, and questions with evidence.

Evidence is named by turn (`D1:3`: session 1, turn 3). Categories 1 to 4 have answers; 5 asks for what was never said.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from farthing.errors import InvalidRequest
from farthing.memory.windows import Said

_SESSION: Final = re.compile(r"session_(\d+)")
_EVIDENCE: Final = re.compile(r"D:?(\d+):(\d+)")
_ANSWERABLE: Final = frozenset({1, 2, 3, 4})
_SHAPE: Final = (
    'a list of {"conversation": {"session_1": [{"speaker", "dia_id", "text"}, …], "session_1_date_time", …},'
    ' "qa": [{"question", "evidence", "category"}, …]}'
)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question, and the places of the turns that answer it."""

    text: str
    evidence: frozenset[int]
    category: int


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation in order, and its questions. `left_out` counts those that name no turn that there is."""

    name: str
    turns: tuple[Said, ...]
    questions: tuple[Question, ...]
    left_out: int


class _Qa(msgspec.Struct):
    question: str
    category: int
    evidence: list[str] = []


class _Sample(msgspec.Struct):
    conversation: dict[str, Any]
    qa: list[_Qa]
    sample_id: str = ""


class _Turn(msgspec.Struct):
    speaker: str
    dia_id: str
    text: str = ""
    blip_caption: str | None = None


def conversations(data: bytes) -> list[Conversation]:
    """All of a file. Raises `InvalidRequest` that says where it is not as LoCoMo's."""
    try:
        samples = msgspec.json.decode(data, type=list[_Sample])
        return [_conversation(sample, number) for number, sample in enumerate(samples, 1)]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"this is not LoCoMo's JSON: {error}; it is {_SHAPE}") from None


def _conversation(sample: _Sample, number: int) -> Conversation:
    turns: list[Said] = []
    places: dict[tuple[int, int], int] = {}
    sessions = sorted(int(match[1]) for title in sample.conversation if (match := _SESSION.fullmatch(title)))
    for session in sessions:
        date = str(sample.conversation.get(f"session_{session}_date_time") or f"session {session}")
        for turn in msgspec.convert(sample.conversation[f"session_{session}"], list[_Turn]):
            for place in _named(turn.dia_id):
                places.setdefault(place, len(turns))
            turns.append(Said(speaker=turn.speaker, text=_text(turn), session=date))
    asked = [one for one in sample.qa if one.category in _ANSWERABLE]
    questions = tuple(found for one in asked if (found := _question(one, places)) is not None)
    name = sample.sample_id or f"conversation {number}"
    return Conversation(name=name, turns=tuple(turns), questions=questions, left_out=len(asked) - len(questions))


def _text(turn: _Turn) -> str:
    """What was said, and what its picture shows. On one line."""
    text = " ".join(turn.text.split())
    return f"{text} (photo: {' '.join(turn.blip_caption.split())})" if turn.blip_caption else text


def _question(asked: _Qa, places: dict[tuple[int, int], int]) -> Question | None:
    found = frozenset(places[name] for text in asked.evidence for name in _named(text) if name in places)
    return Question(text=asked.question, evidence=found, category=asked.category) if found else None


def _named(text: str) -> Sequence[tuple[int, int]]:
    """The turns in a text that names some, whatever stands between them: "D8:6; D9:17", "D:11:26", "D30:05"."""
    return [(int(session), int(turn)) for session, turn in _EVIDENCE.findall(text)]
