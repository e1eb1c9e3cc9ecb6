"""What the official SDK makes of refusals: its error classes, and whether and when it asks again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import openai
import pytest
from inside import new_key
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from probes import Probe

from farthing.testing.installation import Installation
from farthing.testing.replies import Reply, completion, error, rate_limited
from farthing.testing.upstream import ScriptedUpstream


def ask() -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": f"hello {uuid4()}"}]


@pytest.fixture
def patient(gateway: Installation) -> Iterator[OpenAI]:
    """The SDK as it comes: it asks up to two times again."""
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, timeout=20) as client:
        assert client.max_retries == 2
        yield client


def test_wrong_key(gateway: Installation) -> None:
    with OpenAI(base_url=gateway.base_url, api_key="fk-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="fast", messages=ask())
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "invalid_request_error")
    assert caught.value.request_id


async def test_unknown_model(async_sdk: AsyncOpenAI, sdk: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=r"Models for chat: fast, strong\.") as caught:
        await async_sdk.chat.completions.create(model="gpt-9", messages=ask())
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="fast, strong"):
        sdk.models.retrieve("gpt-9")


def test_wrong_type(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature") as caught:
        sdk.chat.completions.create(model="fast", messages=ask(), temperature="hot")  # type: ignore[call-overload]  # the point
    assert (caught.value.code, caught.value.param) == ("invalid_request", "temperature")


def test_key_for_other_models(gateway: Installation) -> None:
    key = new_key(gateway, "picky", models=["strong"])["key"]
    with OpenAI(base_url=gateway.base_url, api_key=key) as client:
        assert [model.id for model in client.models.list()] == ["strong"]
        assert client.chat.completions.create(model="strong", messages=ask()).choices
        with pytest.raises(openai.PermissionDeniedError, match="may use: strong") as caught:
            client.chat.completions.create(model="fast", messages=ask())
        assert (caught.value.code, caught.value.type) == ("not_allowed", "permission_error")


def test_key_that_is_not_an_admins_opens_no_admin_door(gateway: Installation) -> None:
    key = new_key(gateway, "plain")["key"]
    for path in ("/admin/v1/keys", "/admin/v1/report", "/metrics"):
        status, body = gateway.get(path, key=key)
        assert (status, json.loads(body)["error"]["code"]) == (403, "not_allowed")


@pytest.mark.parametrize(
    ("sent", "raised", "code"),
    [
        (
            error(400, "too long", "invalid_request_error", "context_length_exceeded", param="messages"),
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        (error(404, "gone", "invalid_request_error", "model_not_found"), openai.NotFoundError, "model_not_found"),
        (error(409, "busy", "conflict"), openai.ConflictError, "invalid_request"),
        (error(422, "odd", "invalid_request_error"), openai.UnprocessableEntityError, "invalid_request"),
    ],
)
def test_upstreams_refusal_of_the_request_is_handed_on(
    sent: Reply, raised: type[openai.APIStatusError], code: str, patient: OpenAI, up: ScriptedUpstream
) -> None:
    """Once: it would be refused again."""
    up.script("fast", sent)
    received = up.received
    with pytest.raises(raised) as caught:
        patient.chat.completions.create(model="fast", messages=ask())
    said = sent.json["error"]
    assert (caught.value.body, caught.value.code) == ({**said, "code": code}, code)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert up.received == received + 1


@pytest.mark.parametrize(("status", "seen"), [(500, 502), (502, 502), (503, 502), (529, 502), (504, 504), (408, 504)])
def test_upstreams_failure_is_ours_to_answer_for(status: int, seen: int, sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", error(status, "on fire"))
    with pytest.raises(openai.InternalServerError, match="on fire") as caught:
        sdk.chat.completions.create(model="fast", messages=ask())
    assert (caught.value.status_code, caught.value.response.headers["x-should-retry"]) == (seen, "true")


@pytest.mark.parametrize(
    ("reply", "after", "after_ms"),
    [
        (rate_limited(retry_after="7"), "7", "7000"),
        (rate_limited(retry_after_ms="1500"), "2", "1500"),
        (rate_limited(retry_after="30", retry_after_ms="250"), "1", "250"),
        (rate_limited(), None, None),
        (rate_limited(retry_after="soon"), None, None),
    ],
)
def test_rate_limit_is_handed_on_with_the_upstreams_wish(
    reply: Reply, after: str | None, after_ms: str | None, sdk: OpenAI, up: ScriptedUpstream
) -> None:
    up.script("fast", reply)
    with pytest.raises(openai.RateLimitError) as caught:
        sdk.chat.completions.create(model="fast", messages=ask())
    headers = caught.value.response.headers
    assert (headers.get("retry-after"), headers.get("retry-after-ms")) == (after, after_ms)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")


def test_the_sdk_asks_again_when_that_may_help(patient: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", rate_limited(retry_after_ms="10"), error(500), completion("third time lucky"))
    received = up.received
    answer = patient.chat.completions.create(model="fast", messages=ask())
    assert answer.choices[0].message.content == "third time lucky"
    assert up.received == received + 3


def test_the_sdk_waits_as_long_as_the_upstream_wishes(patient: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", rate_limited(retry_after_ms="300"), completion("later"))
    patient.chat.completions.create(model="fast", messages=ask())
    first, second = up.of("fast")[-2:]
    assert second.at - first.at >= 0.3


def test_the_sdk_does_not_ask_again_when_that_cannot_help(patient: OpenAI, up: ScriptedUpstream) -> None:
    """A 502 that says that our own credentials are wrong is one that the SDK would repeat by its status alone."""
    up.script("fast", error(401, "bad key", "invalid_request_error", "invalid_api_key"))
    received = up.received
    with pytest.raises(openai.InternalServerError) as caught:
        patient.chat.completions.create(model="fast", messages=ask())
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_credentials")
    assert up.received == received + 1


def test_each_try_of_the_sdk_is_a_request_of_its_own(patient: OpenAI, up: ScriptedUpstream, probe: Probe) -> None:
    up.script("fast", rate_limited(retry_after_ms="1"))
    with probe.adds(requests=3, attempts=3, errors=3), pytest.raises(openai.RateLimitError):
        patient.chat.completions.create(model="fast", messages=ask())


def test_error_before_a_stream_begins_is_raised_by_the_call_itself(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", rate_limited(retry_after="3"))
    with pytest.raises(openai.RateLimitError):
        sdk.chat.completions.create(model="fast", messages=ask(), stream=True)


def test_unknown_option_of_farthing_proposes_the_right_one(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean 'namespace'"):
        sdk.chat.completions.create(model="fast", messages=ask(), extra_body={"farthing": {"namspace": "x"}})
