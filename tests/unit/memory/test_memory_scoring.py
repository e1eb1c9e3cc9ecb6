"""LoCoMo's files, and the score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from farthing.errors import InvalidRequest
from farthing.memory.locomo import conversations
from farthing.memory.scoring import score


def _file(*qa: dict[str, Any], **conversation: Any) -> bytes:
    talk = {
        "speaker_a": "Ann",
        "speaker_b": "Bob",
        "session_1_date_time": "1 May",
        "session_1": [
            {"speaker": "Ann", "dia_id": "D1:1", "text": "I painted\na sunrise.", "blip_caption": "a photo of a lake"},
            {"speaker": "Bob", "dia_id": "D1:2", "text": "I ran a race."},
        ],
        "session_10": [{"speaker": "Ann", "dia_id": "D10:1", "text": "I sold it."}],
        "session_2": [{"speaker": "Ann", "dia_id": "D2:1", "text": "I moved to Rome."}],
        **conversation,
    }
    return json.dumps([{"sample_id": "one", "conversation": talk, "qa": list(qa)}]).encode()


def _blind(texts: Sequence[str]) -> list[list[float]]:
    return [[1.0, 0.0] for _ in texts]


def test_a_file_is_read_in_the_order_of_its_sessions() -> None:
    (found,) = conversations(_file())
    assert [turn.line for turn in found.turns] == [
        "Ann: I painted a sunrise. (photo: a photo of a lake)",
        "Bob: I ran a race.",
        "Ann: I moved to Rome.",
        "Ann: I sold it.",
    ]
    assert [turn.session for turn in found.turns] == ["1 May", "1 May", "session 2", "session 10"]


def test_evidence_is_read_however_it_is_written() -> None:
    asked = [
        {"question": "a", "category": 1, "evidence": ["D1:1; D2:1"]},
        {"question": "b", "category": 2, "evidence": ["D:1:2", "D10:01"]},
        {"question": "c", "category": 3, "evidence": ["D"]},
        {"question": "d", "category": 4, "evidence": ["D7:7"]},
        {"question": "never said", "category": 5, "evidence": ["D1:1"], "adversarial_answer": "x"},
    ]
    (found,) = conversations(_file(*asked))
    assert [(one.text, sorted(one.evidence)) for one in found.questions] == [("a", [0, 2]), ("b", [1, 3])]
    assert found.left_out == 2


def test_recall_is_the_mean_share_of_evidence_and_tokens_are_all_that_is_put_in() -> None:
    asked = [
        {"question": "Who painted the sunrise?", "category": 4, "evidence": ["D1:1"]},
        {"question": "Who moved to Rome?", "category": 1, "evidence": ["D2:1", "D1:2"]},
    ]
    scored = score(conversations(_file(*asked)), _blind, max_tokens=18)
    assert scored.evidence_recall == pytest.approx(0.75)
    assert scored.by_category == {"1": 0.5, "4": 1.0}
    assert scored.tokens_per_question == pytest.approx((15 + 16) / 2, abs=1)
    assert scored.full_history_tokens > scored.tokens_per_question


def test_all_of_it_is_recalled_when_all_of_it_fits() -> None:
    asked = {"question": "What?", "category": 4, "evidence": ["D1:1", "D10:1"]}
    scored = score(conversations(_file(asked)), _blind, max_tokens=1000)
    assert scored.evidence_recall == 1
    assert scored.tokens_per_question == scored.full_history_tokens


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'[{"qa": []}]', b'[{"conversation": {"session_1": 7}, "qa": []}]', b"[" * 100_000])
def test_another_kind_of_file_is_refused_with_the_shape_it_should_have(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="LoCoMo"):
        conversations(data)
