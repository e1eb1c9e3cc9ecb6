"""Upstreams of a known quality."""

from __future__ import annotations

import json
from typing import Any

import pytest

from farthing.testing.echo import Received
from farthing.testing.quality import bad_json, in_share, of_share, says


def asked(question: str, **more: Any) -> Received:
    body = {"model": "weak", "messages": [{"role": "user", "content": question}], **more}
    return Received(method="POST", path="/v1/chat/completions", headers={}, body=body, at=0.0)


def said(reply: Any) -> str:
    return str(reply.json["choices"][0]["message"]["content"])


def test_a_share_of_the_questions_is_answered_badly_and_the_same_ones_each_time() -> None:
    weak = of_share(0.3, says("bad"), says("good"))
    answers = [said(weak(asked(f"question {at}"))) for at in range(1000)]
    assert 250 < answers.count("bad") < 350
    assert answers == [said(weak(asked(f"question {at}"))) for at in range(1000)]
    assert [in_share(f"question {at}", 0.3) for at in range(1000)] == [answer == "bad" for answer in answers]


def test_spoilt_json_cannot_be_read_in_any_of_its_ways() -> None:
    texts = {said(bad_json('{"a": 1}')(asked(f"question {at}"))) for at in range(50)}
    assert len(texts) == 4
    for text in texts:
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)


def test_a_text_comes_whole_or_in_pieces() -> None:
    assert said(says("Paris, of course.")(asked("?"))) == "Paris, of course."
    streamed = says("Paris, of course.", finish_reason="length")(asked("?", stream=True)).parts
    assert streamed is not None
    assert sum(b'"content"' in part for part in streamed if isinstance(part, bytes)) >= 3
