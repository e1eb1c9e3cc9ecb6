"""llm-comply checks every answer against the OpenAPI documents of OpenAI and of Open Responses. None of its checks needs the internet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from farthing.testing.echo import Received
from farthing.testing.installation import Installation
from farthing.testing.replies import Reply, completion, stream, usage_object
from farthing.testing.upstream import ScriptedUpstream

MODEL = "gpt-5"
"""A name for which llm-comply runs its reasoning check too."""


def _full(received: Received) -> Reply:
    """What OpenAI answers."""
    body = received.body
    if body.get("tool_choice") == "required":
        return completion(None, tool_calls=[("get_weather", '{"location": "San Francisco"}')])
    if body.get("stream"):
        return stream(("One", " two"), counts=usage_object(9, 2, reasoning=1))
    return completion("Hello there, friend.", usage=usage_object(9, 5, reasoning=2))


def _bare(received: Received) -> Reply:
    """What a sparing server answers: no field that it can do without."""
    whole = _full(received)
    if whole.parts is not None:
        events = [json.loads(part[6:]) for part in whole.parts if isinstance(part, bytes) and b"[DONE]" not in part]
        sparing = [
            {"id": event["id"], "choices": [_less(choice, "delta") for choice in event["choices"]]} for event in events if event["choices"]
        ]
        return Reply(parts=[*(b"data: " + json.dumps(event).encode() + b"\n\n" for event in sparing), b"data: [DONE]\n\n"])
    return Reply(json={"model": whole.json["model"], "choices": [_less(choice, "message") for choice in whole.json["choices"]]})


def _less(choice: dict[str, Any], inside: str) -> dict[str, Any]:
    said = {name: value for name, value in choice[inside].items() if value and name != "role"}
    end = choice["finish_reason"]
    return {"index": choice["index"], inside: said, **({"finish_reason": end} if end else {})}


@pytest.mark.parametrize("answer", [_full, _bare])
@pytest.mark.parametrize(("form", "checks"), [("openai-chat", 9), ("open-responses", 13)])
def test_all_checks_pass(form: str, checks: int, answer: Any, fleet: Installation, up: ScriptedUpstream) -> None:
    up.script(MODEL, answer)
    command = [sys.executable, "-m", "llm_comply.cli", "--format", form, "--json", "--timeout", "20"]
    command += ["--base-url", fleet.base_url, "--model", MODEL, "--header", "x-farthing-cache:off"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "OPENRESPONSES_API_KEY": fleet.key}
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    wrong = [result for result in found["results"] if result["status"] != "passed"]
    assert wrong == []
    assert found["summary"] == {"total": checks, "passed": checks, "failed": 0, "skipped": 0}
