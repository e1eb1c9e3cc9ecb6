"""POST /api/v1/generate: the caller names no model, settings do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from inside import eventually, new_key, query, settled

from farthing.testing.installation import Installation
from farthing.testing.malformed import error_mid_stream
from farthing.testing.replies import completion, error, stream, usage_object
from farthing.testing.upstream import ScriptedUpstream


def post(farthing: Installation, key: str | None = None, /, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key or farthing.key}"}
    return httpx.post(f"{farthing.url}/api/v1/generate", json=body, headers=headers, timeout=20)


def test_an_answer_says_what_it_was_and_what_it_cost(fleet: Installation, up: ScriptedUpstream) -> None:
    up.script("first", completion("Hello!", usage=usage_object(1000, 500)))
    answer = post(fleet, prompt=f"hi {uuid4()}", task_type="greet", user="ann", system="Brief.", max_tokens=7)
    assert answer.status_code == 200
    assert answer.json() == {
        "id": answer.headers["x-farthing-request-id"],
        "text": "Hello!",
        "finish_reason": "stop",
        "usage": {"input_tokens": 1000, "output_tokens": 500},
        "cost_usd": 0.0015,
        "saved_usd": 0,
        "source": "model",
        "task_type": "greet",
    }
    assert '"cost_usd":0.001500,' in answer.text, "exact decimals"
    assert answer.headers["x-farthing-model"] == "pair"
    body = up.of("first")[-1].body
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert (body["max_tokens"], body.keys() & {"task_type", "user", "farthing", "prompt"}) == (7, set())
    (row,) = settled(fleet, [answer.json()["id"]])[answer.json()["id"]]
    assert (row["task_type"], row["user_id"], row["model_used"]) == ("greet", "ann", "pair")


def test_the_task_type_chooses_the_model(fleet: Installation) -> None:
    assert post(fleet, prompt="hi", task_type="summarize").headers["x-farthing-model"] == "cheap"
    assert post(fleet, prompt="hi", task_type="never heard of").headers["x-farthing-model"] == "pair"
    header = {"authorization": f"Bearer {fleet.key}", "x-farthing-task-type": "summarize"}
    found = httpx.post(f"{fleet.url}/api/v1/generate", json={"prompt": "hi"}, headers=header, timeout=20)
    assert found.headers["x-farthing-model"] == "cheap"


def test_without_settings_it_is_the_first_model_that_the_key_may_use(gateway: Installation) -> None:
    assert post(gateway, prompt="hi").headers["x-farthing-model"] == "fast"
    key = new_key(gateway, "narrow", models=["strong"])["key"]
    assert post(gateway, key, prompt="hi").headers["x-farthing-model"] == "strong"


def test_a_model_that_the_key_may_not_use_is_refused(fleet: Installation) -> None:
    refused = post(fleet, new_key(fleet, "narrow", models=["cheap"])["key"], prompt="hi")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_allowed")


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    blocks = answer.text.removesuffix("\n\n").split("\n\n")
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


def test_a_stream_of_deltas_and_the_same_from_the_cache(fleet: Installation, up: ScriptedUpstream) -> None:
    up.script("first", stream(("Hel", "lo"), counts=usage_object(1000, 500)))
    question: dict[str, Any] = {"prompt": f"hi {uuid4()}", "stream": True}
    for source, cost, saved in (("model", 0.0015, 0), ("exact", 0, 0.0015)):
        answer = post(fleet, **question)
        assert answer.headers["content-type"].startswith("text/event-stream")
        *deltas, done = events(answer)
        assert {event["id"] for event in (*deltas, done)} == {answer.headers["x-farthing-request-id"]}
        assert [(event["type"], event["text"]) for event in deltas] == [("delta", "Hel"), ("delta", "lo")]
        assert (done["type"], done["finish_reason"], done["source"], done["cost_usd"], done["saved_usd"]) == (
            "done",
            "stop",
            source,
            cost,
            saved,
        )


def test_a_stream_that_breaks_ends_in_an_error(fleet: Installation, up: ScriptedUpstream) -> None:
    up.script("first", error_mid_stream(message="on fire"))
    *_, last = events(post(fleet, prompt=f"hi {uuid4()}", stream=True))
    assert (last["type"], last["error"]["message"]) == ("error", "on fire")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "prompt"),
        ({"prompt": "a", "model": "fast"}, 400, "model"),
        ({"prompt": "a", "promt": "b"}, 400, "promt"),
        ({"prompt": "a", "task_type": "x" * 300}, 400, "farthing.task_type"),
        ({"prompt": "a", "farthing": {"cash": "on"}}, 400, "farthing.cash"),
        ({"prompt": "a", "max_tokens": -1}, 400, "max_tokens"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name_and_recorded(fleet: Installation, body: dict[str, Any], status: int, param: str) -> None:
    refused = post(fleet, **body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
    request_id = refused.headers["x-farthing-request-id"]
    rows = eventually(lambda: query(fleet, "SELECT * FROM farthing.ledger WHERE request_id = %s::uuid", request_id), "the row")
    assert [(row["status"], row["final"]) for row in rows] == [(status, True)]


def test_a_providers_error_comes_through(fleet: Installation, up: ScriptedUpstream) -> None:
    up.script("first", error(400, "too hot", "invalid_request_error", param="temperature"))
    refused = post(fleet, prompt=f"hi {uuid4()}", temperature=9)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, "too hot")


def test_settings_that_name_no_chat_model_are_refused(fleet: Installation, tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("generate: {task_types: {summarize: locl}}", encoding="utf-8")
    done = fleet.cli("settings", "check", "--settings", str(file), check=False)
    assert done.returncode != 0
    assert "generate.task_types.summarize: there is no 'locl'; did you mean 'local'?" in done.stdout + done.stderr
