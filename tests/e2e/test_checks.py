"""Checks through the real server: bad answers of a cheap model are replaced by those of a good one, and never reach the client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import openai
import pytest
from conftest import scripted
from inside import query, settled
from openai import OpenAI

from farthing.testing.echo import Received
from farthing.testing.installation import Installation
from farthing.testing.quality import bad_json, in_share, of_share, says
from farthing.testing.replies import DONE, Reply, sse, usage_object
from farthing.testing.upstream import ScriptedUpstream, serve_in_thread

GOOD = '{"city": "Paris", "river": "Seine"}'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
VALIDATORS = """
import time

def no_rivers(answer, request):
    if "hang" in answer:
        time.sleep(60)
    return "it names a river" if "Thames" in answer else None
"""


def routers(*checks: dict[str, Any]) -> dict[str, Any]:
    return {"models": ["fast", "strong"], "cascade": {"checks": list(checks)}}


@pytest.fixture(scope="module")
def behind() -> Iterator[ScriptedUpstream]:
    with serve_in_thread() as running:
        yield running


@pytest.fixture(scope="module")
def library(folders: Path) -> Path:
    folder = folders / "validators"
    folder.mkdir()
    (folder / "house.py").write_text(VALIDATORS, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def checked(folders: Path, behind: ScriptedUpstream, library: Path) -> Iterator[Installation]:
    settings: Any = scripted(behind)
    settings["models"]["critic"] = {**settings["models"]["fast"], "upstream_model": "critic"}
    settings["routing"] = {
        "routers": {
            "plain": routers({"kind": "empty"}, {"kind": "refusal"}, {"kind": "json_schema"}, {"kind": "truncated"}),
            "house": routers({"kind": "validator", "entry_point": "house:no_rivers", "timeout_s": 0.5, "name": "no-rivers"}),
            "judged": routers({"kind": "judge", "model": "critic", "min_score": 7}),
            "sure": routers({"kind": "confidence", "min_mean": -1, "ask": True, "models": ["fast"]}),
            "bare": {"models": ["fast", "strong"], "cascade": {}},
        }
    }
    with Installation(folders / "checked", settings, environ={"PYTHONPATH": str(library)}) as running:
        yield running


@pytest.fixture(autouse=True)
def _usual(behind: ScriptedUpstream) -> None:
    behind.script("fast", says("Weak words."))
    behind.script("strong", says("Strong words."))


@pytest.fixture
def sdk(checked: Installation) -> Iterator[OpenAI]:
    with OpenAI(base_url=checked.base_url, api_key=checked.key, max_retries=0, timeout=20) as client:
        yield client


def ask(sdk: OpenAI, model: str, **more: Any) -> Any:
    return sdk.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": f"Where is it? {uuid4()}"}], **more
    )


def test_bad_json_never_reaches_the_client(sdk: OpenAI, behind: ScriptedUpstream) -> None:
    behind.script("fast", of_share(0.5, bad_json(GOOD), says(GOOD)))
    behind.script("strong", says(GOOD))
    models = []
    for at in range(12):
        question = f"Where is number {at}?"
        raw = sdk.chat.completions.with_raw_response.create(
            model="plain", messages=[{"role": "user", "content": question}], response_format=FORMAT
        )
        assert json.loads(raw.parse().choices[0].message.content or "")["city"] == "Paris"
        models.append(raw.headers["x-farthing-model"])
        assert raw.headers["x-farthing-checks"] == "passed"
        assert models[-1] == ("strong" if in_share(question, 0.5) else "fast")
    assert set(models) == {"fast", "strong"}


def test_both_models_are_in_the_ledger_with_what_the_checks_said(checked: Installation, sdk: OpenAI, behind: ScriptedUpstream) -> None:
    behind.script("fast", says("I'm sorry, but I can't assist with that."))
    raw = ask(sdk, "plain")
    assert raw.parse().choices[0].message.content == "Strong words."
    request_id = raw.headers["x-farthing-request-id"]
    rows = settled(checked, [request_id])[request_id]
    assert [(row["model_used"], row["checks"], row["final"]) for row in sorted(rows, key=lambda row: row["attempt"])] == [
        ("fast", "failed:refusal", False),
        ("strong", "passed", True),
    ]


@pytest.mark.parametrize(
    ("flawed", "more"),
    [
        ("I cannot help with that request, sorry about it.", {}),
        ("   ", {}),
        ('```json\n{"city": "Paris"}\n```', {"response_format": FORMAT}),
        ('{"city": 5}', {"response_format": FORMAT}),
    ],
)
def test_nothing_of_a_bad_stream_reaches_the_client(sdk: OpenAI, behind: ScriptedUpstream, flawed: str, more: dict[str, Any]) -> None:
    good = GOOD if more else "Strong words."
    behind.script("fast", says(flawed))
    behind.script("strong", says(good))
    stream = sdk.chat.completions.create(model="plain", messages=[{"role": "user", "content": f"Where? {uuid4()}"}], stream=True, **more)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == good


def test_a_validator_of_ones_own_rejects(sdk: OpenAI, behind: ScriptedUpstream) -> None:
    behind.script("fast", says("It is on the Thames."))
    raw = ask(sdk, "house")
    assert (raw.headers["x-farthing-model"], raw.headers["x-farthing-checks"]) == ("strong", "passed")
    behind.script("strong", says("On the Thames, too."))
    raw = ask(sdk, "house")
    assert raw.headers["x-farthing-checks"] == "failed:no-rivers"
    assert "Thames" in (raw.parse().choices[0].message.content or "")


def test_a_validator_that_hangs_costs_its_time_and_no_answer(sdk: OpenAI, behind: ScriptedUpstream) -> None:
    behind.script("fast", says("please hang"))
    assert ask(sdk, "house").headers["x-farthing-model"] == "fast"
    behind.script("fast", says("It is on the Thames."))
    assert ask(sdk, "house").headers["x-farthing-model"] == "strong", "a fresh process looks at the next one"


def test_a_judge_is_asked_and_paid_for_under_its_own_purpose(checked: Installation, sdk: OpenAI, behind: ScriptedUpstream) -> None:
    behind.script("critic", says('{"score": 3}'), says('{"score": 9}'))
    raw = ask(sdk, "judged")
    assert raw.headers["x-farthing-model"] == "strong"
    settled(checked, [raw.headers["x-farthing-request-id"]])
    rows = query(checked, "SELECT model_used, purpose, cost_microusd FROM farthing.ledger WHERE purpose = 'check'")
    assert [row["model_used"] for row in rows] == ["critic", "critic"]
    assert all(row["cost_microusd"] > 0 for row in rows)


def test_a_judge_that_talks_nonsense_lets_the_cheap_answer_pass(sdk: OpenAI, behind: ScriptedUpstream) -> None:
    behind.script("critic", says("3 or maybe 4"))
    assert ask(sdk, "judged").headers["x-farthing-model"] == "fast"


def sure(logprob: float) -> Any:
    """A model that is as sure of each token, and tells where it is asked."""

    def answer(received: Received) -> Reply:
        choice: Any = {"index": 0, "finish_reason": "stop", "logprobs": None}
        if received.body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "Weak", "logprob": logprob, "bytes": None, "top_logprobs": []}], "refusal": None}
        head = {"id": "chatcmpl-1", "created": 1, "model": "fast"}
        if not received.body.get("stream"):
            message = {"role": "assistant", "content": "Weak", "refusal": None}
            return Reply(
                json={**head, "object": "chat.completion", "choices": [{**choice, "message": message}], "usage": usage_object(1, 1)}
            )
        chunk = {**head, "object": "chat.completion.chunk", "choices": [{**choice, "delta": {"role": "assistant", "content": "Weak"}}]}
        return Reply(parts=(sse(chunk), DONE))

    return answer


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_was_unsure_is_not_believed_and_nobody_sees_what_it_was_asked_for(
    sdk: OpenAI,
    behind: ScriptedUpstream,
    stream: bool,  # noqa: FBT001 - a table
) -> None:
    behind.script("fast", sure(-3.0))
    assert ask(sdk, "sure", stream=stream).headers["x-farthing-model"] == "strong"
    assert "logprobs" not in behind.of("strong")[-1].body
    behind.script("fast", sure(-0.1))
    raw = ask(sdk, "sure", stream=stream)
    assert raw.headers["x-farthing-model"] == "fast"
    assert behind.of("fast")[-1].body["logprobs"] is True
    choices = [chunk.choices[0] for chunk in raw.parse() if chunk.choices] if stream else raw.parse().choices
    assert [choice.logprobs for choice in choices] == [None] * len(choices)
    raw = ask(sdk, "sure", stream=stream, logprobs=True)
    choices = [chunk.choices[0] for chunk in raw.parse() if chunk.choices] if stream else raw.parse().choices
    assert any(choice.logprobs and choice.logprobs.content for choice in choices), "who asked gets them"


def test_a_request_may_bring_a_check(sdk: OpenAI) -> None:
    checks = [{"kind": "pattern", "must_match": "^Strong"}]
    assert ask(sdk, "bare").headers["x-farthing-model"] == "fast"
    assert ask(sdk, "bare", extra_body={"farthing": {"route": {"checks": checks}}}).headers["x-farthing-model"] == "strong"


@pytest.mark.parametrize(
    ("checks", "param"),
    [
        ([{"kind": "validator", "entry_point": "os:system"}], "farthing.route.checks[0].kind"),
        ([{"kind": "pattern", "must_match": "(?=a)"}], "farthing.route.checks[0].must_match"),
        ([{"kind": "empty", "min_char": 1}], "farthing.route.checks[0].min_char"),
    ],
)
def test_a_check_that_a_request_may_not_bring_is_refused(sdk: OpenAI, checks: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        ask(sdk, "bare", extra_body={"farthing": {"route": {"checks": checks}}})
    assert raised.value.param == param


def test_settings_check_says_which_validator_is_not_there(folders: Path, behind: ScriptedUpstream) -> None:
    settings: Any = scripted(behind)
    settings["routing"] = {"routers": {"auto": routers({"kind": "empty"}, {"kind": "validator", "entry_point": "no_such_module:f"})}}
    file = folders / "missing.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "farthing"), "settings", "check", "--settings", str(file), "--data", str(folders / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=dict(os.environ))
    assert done.returncode != 0
    assert (
        "routing.routers.auto.cascade.checks.1.entry_point: no_such_module:f cannot be loaded: ModuleNotFoundError"
        in done.stderr.replace("\n", " ")
    )
