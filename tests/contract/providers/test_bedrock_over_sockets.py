"""What is Amazon Bedrock's own: signatures, credentials that expire, exceptions in mid-stream, embeddings by family."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farthing.app_catalogue import provider_of
from farthing.errors import (
    InvalidRequest,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRefusedUs,
    UpstreamRejected,
    UpstreamUnavailable,
)
from farthing.ports import Call, Provider
from farthing.settings import BedrockSettings
from farthing.testing.bedrock import BedrockVendor, event, exception, failure, signed_by, usage
from farthing.testing.replies import STALL, Reply
from farthing.testing.upstream import ANY_MODEL, Received, ScriptedUpstream
from farthing.testing.vendors import Said, Tokens
from farthing.types import Json, Usage, new_id

REGION = "eu-central-1"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CLAUDE = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE_ARN = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1b2c3"
VENDOR = BedrockVendor()
Make = Callable[..., Provider]


@pytest.fixture
async def up() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as upstream:
        yield upstream


@pytest.fixture
async def make(up: ScriptedUpstream) -> AsyncIterator[Make]:
    made: list[Provider] = []

    def make(**settings: Any) -> Provider:
        given = {"kind": "bedrock", "region": REGION, "base_url": f"http://127.0.0.1:{up.port}"}
        made.append(provider_of("up", BedrockSettings.model_validate(given | settings)))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()
    await up.wait_for(lambda up: up.open_connections == 0)


def given(**more: Any) -> dict[str, Any]:
    return {"access_key_id": "AKIDEXAMPLE", "secret_access_key": SECRET, **more}


def call(model: str = CLAUDE, **body: Any) -> Call:
    return Call(upstream_model=model, body={"messages": [{"role": "user", "content": "Grüße, 世界"}], **body}, request_id=new_id())


def embedding(model: str, texts: Any, **more: Any) -> Call:
    return Call(upstream_model=model, body={"input": texts, "encoding_format": "float", **more}, request_id=new_id())


def play(up: ScriptedUpstream, *parts: Any) -> None:
    up.script(ANY_MODEL, Reply(parts=parts, headers=VENDOR.stream_headers))


async def read(provider: Provider) -> tuple[list[Json], list[Json], UpstreamError | None]:
    """Chunks, usages, and the error that ended the stream."""
    chunks: list[Json] = []
    usages: list[Json] = []
    try:
        async for chunk, counted in provider.stream(call()):
            chunks += [chunk] if chunk else []
            usages += [counted] if counted else []
    except UpstreamError as error:
        return chunks, usages, error
    return chunks, usages, None


# Who we are


@pytest.mark.parametrize("token", [None, "a/session+token=="])
@pytest.mark.parametrize("model", [CLAUDE, PROFILE_ARN, "amazon.nova-lite-v1:0"])
async def test_each_request_is_signed_as_aws_would_compute_it(up: ScriptedUpstream, make: Make, model: str, token: str | None) -> None:
    up.script(ANY_MODEL, VENDOR.whole(Said()))
    await make(**given(session_token=token)).chat(call(model))
    (received,) = up.requests
    assert received.path == "/model/" + model.replace(":", "%3A").replace("/", "%2F") + "/converse"
    assert signed_by(received, SECRET, service="bedrock", region=REGION)
    assert not signed_by(received, SECRET + "x", service="bedrock", region=REGION)
    assert received.headers.get("x-amz-security-token") == token
    assert ("x-amz-security-token" in received.headers["authorization"]) is (token is not None)


async def test_streams_and_embeddings_are_signed_too(up: ScriptedUpstream, make: Make) -> None:
    begun, rest = VENDOR.events(Said())
    play(up, *begun, *rest)
    provider = make(**given())
    await read(provider)
    up.script(ANY_MODEL, VENDOR.vectors(1, 3))
    await provider.embed(embedding("amazon.titan-embed-text-v2:0", "a"))
    assert [one.path.rpartition("/")[2] for one in up.requests] == ["converse-stream", "invoke"]
    assert all(signed_by(one, SECRET, service="bedrock", region=REGION) for one in up.requests)


async def test_a_bedrock_api_key_is_sent_instead_of_a_signature(up: ScriptedUpstream, make: Make) -> None:
    up.script(ANY_MODEL, failure(403, "AccessDeniedException", "not with bedrock-api-key-canary"))
    with pytest.raises(UpstreamRefusedUs) as caught:
        await make(api_key="bedrock-api-key-canary").chat(call())
    assert up.requests[0].headers["authorization"] == "Bearer bedrock-api-key-canary"
    assert "canary" not in repr(vars(caught.value))


async def test_why_we_are_refused_is_for_the_operator_and_now_and_then_only(
    up: ScriptedUpstream, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    up.script(ANY_MODEL, failure(403, "AccessDeniedException", f"User: arn:aws:iam::123456789012:user/ops may not; secret {SECRET}"))
    provider = make(**given())
    for _ in range(3):
        with pytest.raises(UpstreamRefusedUs) as caught:
            await provider.chat(call())
        assert "123456789012" not in repr(vars(caught.value))
    assert caplog.text.count("user/ops may not") == 1
    assert SECRET not in caplog.text


async def test_without_credentials_nothing_is_sent(
    up: ScriptedUpstream, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile(monkeypatch, tmp_path, None)
    with pytest.raises(UpstreamRefusedUs, match=r"providers\.up"):
        await make().chat(call())
    assert up.received == 0


def profile(monkeypatch: pytest.MonkeyPatch, folder: Path, number: int | None) -> None:
    """Make a user's AWS file the only source of credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    if number is not None:
        keys = f"[default]\naws_access_key_id = ASIA{number}\naws_secret_access_key = {SECRET}\n"
        (folder / "credentials").write_text(keys, encoding="utf-8")


def until_rotated(received: Received) -> Reply:
    """Takes the second key only."""
    expired = failure(403, "ExpiredTokenException", "The security token included in the request is expired")
    return VENDOR.whole(Said()) if "Credential=ASIA2/" in received.headers["authorization"] else expired


async def test_expired_credentials_are_renewed_and_the_request_is_sent_once_more(
    up: ScriptedUpstream, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile(monkeypatch, tmp_path, 1)
    provider = make()
    up.script(ANY_MODEL, VENDOR.whole(Said()))
    await provider.chat(call())
    profile(monkeypatch, tmp_path, 2)
    up.script(ANY_MODEL, until_rotated)
    assert (await provider.chat(call())).body["choices"][0]["message"]["content"] == "Hello"
    assert up.received == 3
    assert signed_by(up.requests[-1], SECRET, service="bedrock", region=REGION)


async def test_credentials_that_stay_expired_are_tried_twice_and_no_more(
    up: ScriptedUpstream, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile(monkeypatch, tmp_path, 1)
    up.script(ANY_MODEL, until_rotated)
    with pytest.raises(UpstreamRefusedUs, match="ExpiredTokenException"):
        await make().chat(call())
    assert up.received == 2


async def test_expired_credentials_of_the_settings_cannot_be_renewed(up: ScriptedUpstream, make: Make) -> None:
    up.script(ANY_MODEL, until_rotated)
    with pytest.raises(UpstreamRefusedUs):
        await make(**given()).chat(call())
    assert up.received == 1


# Trouble


@pytest.mark.parametrize(
    ("name", "status"), [("ThrottlingException", 429), ("ThrottlingException", 400), ("ServiceQuotaExceededException", 400)]
)
async def test_throttling_is_a_rate_limit_whatever_its_status(up: ScriptedUpstream, make: Make, name: str, status: int) -> None:
    up.script(ANY_MODEL, failure(status, name, "Too many tokens, please wait before trying again."))
    with pytest.raises(UpstreamRateLimited, match="Too many tokens"):
        await make(**given()).chat(call())


async def test_throttling_in_the_middle_of_a_stream_is_told_after_what_came(up: ScriptedUpstream, make: Make) -> None:
    begun, _ = VENDOR.events(Said())
    play(up, *begun, exception("throttlingException", "Too many tokens"))
    chunks, usages, error = await read(make(**given()))
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == [None, "Hel", "lo"]
    assert (type(error), usages) == (UpstreamRateLimited, [])


async def test_a_rejection_as_the_first_event_is_the_callers_fault(up: ScriptedUpstream, make: Make) -> None:
    play(up, exception("validationException", "The maximum tokens you requested exceeds the model limit"))
    _, _, error = await read(make(**given()))
    assert type(error) is UpstreamRejected


async def test_an_answer_that_ended_without_its_count_is_whole(up: ScriptedUpstream, make: Make) -> None:
    begun, rest = VENDOR.events(Said())
    play(up, *begun, *rest[:-1])
    chunks, usages, error = await read(make(**given()))
    assert (error, usages) == (None, [])
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_an_answer_cut_inside_its_count_is_broken(up: ScriptedUpstream, make: Make) -> None:
    begun, rest = VENDOR.events(Said())
    play(up, *begun, *rest[:-1], rest[-1][:20])
    _, _, error = await read(make(**given()))
    assert type(error) is UpstreamUnavailable


async def test_a_tool_call_that_cannot_be_read_is_billed_and_an_error(up: ScriptedUpstream, make: Make) -> None:
    begun, rest = VENDOR.events(Said())
    count = event("metadata", usage=usage(Tokens(plain=9, output=40)), metrics={"latencyMs": 1})
    play(up, *begun, *rest[:-2], event("messageStop", stopReason="malformed_tool_use"), count)
    _, usages, error = await read(make(**given()))
    assert [Usage.of(one) for one in usages] == [Usage(input=9, output=40, source="provider")]
    assert type(error) is UpstreamMalformed


async def test_one_changed_bit_in_a_stream_is_noticed(up: ScriptedUpstream, make: Make) -> None:
    begun, rest = VENDOR.events(Said(texts=("secret",)))
    damaged = begun[1].replace(b"secret", b"sacred")
    play(up, begun[0], damaged, *rest)
    chunks, _, error = await read(make(**given()))
    assert type(error) is UpstreamMalformed
    assert "sacred" not in str(chunks)


# Embeddings


def titan(received: Received) -> Reply:
    """A vector that says which text it is of."""
    number = float(received.body["inputText"].removeprefix("text "))
    return Reply(json={"embedding": [number, 0.5], "inputTextTokenCount": 3}, delay_s=0.02 if number % 2 else 0)


async def test_titan_is_asked_for_each_text_and_the_order_is_the_callers(up: ScriptedUpstream, make: Make) -> None:
    up.script(ANY_MODEL, titan)
    body = (await make(**given()).embed(embedding("amazon.titan-embed-text-v2:0", [f"text {at}" for at in range(20)], dimensions=256))).body
    assert [item["embedding"][0] for item in body["data"]] == [float(at) for at in range(20)]
    assert [item["index"] for item in body["data"]] == list(range(20))
    assert body["usage"] == {"prompt_tokens": 60, "total_tokens": 60}
    assert all(one.body.keys() == {"inputText", "dimensions"} for one in up.requests)
    assert up.connections <= 8


async def test_one_text_that_fails_ends_the_others(up: ScriptedUpstream, make: Make) -> None:
    def some(received: Received) -> Reply:
        if received.body["inputText"] == "bad":
            return failure(400, "ValidationException", "too long")
        return Reply(parts=[STALL])

    up.script(ANY_MODEL, some)
    with pytest.raises(UpstreamRejected, match="too long"):
        await make(**given()).embed(embedding("amazon.titan-embed-text-v2:0", ["a", "b", "bad", *"cdefghijklm"]))
    await up.wait_for(lambda up: up.disconnects == up.received - 1)


@pytest.mark.parametrize("shape", ["list", "by type"])
async def test_cohere_is_asked_for_many_texts_at_once(up: ScriptedUpstream, make: Make, shape: str) -> None:
    def cohere(received: Received) -> Reply:
        vectors = [[float(text)] for text in received.body["texts"]]
        found = vectors if shape == "list" else {"float": vectors}
        return Reply(json={"embeddings": found, "id": "0"}, headers={"x-amzn-bedrock-input-token-count": str(len(vectors))})

    up.script(ANY_MODEL, cohere)
    texts = [str(at) for at in range(200)]
    body = (await make(**given()).embed(embedding("cohere.embed-multilingual-v3", texts, input_type="search_query"))).body
    assert sorted(len(one.body["texts"]) for one in up.requests) == [8, 96, 96]
    assert {one.body["input_type"] for one in up.requests} == {"search_query"}
    assert [item["embedding"] for item in body["data"]] == [[float(at)] for at in range(200)]
    assert body["usage"]["prompt_tokens"] == 200


@pytest.mark.parametrize(
    ("model", "texts", "more", "field"),
    [
        ("amazon.titan-embed-text-v2:0", [1, 2, 3], {}, "input"),
        ("amazon.titan-embed-text-v2:0", ["a", ""], {}, "input"),
        ("amazon.titan-embed-text-v2:0", [], {}, "input"),
        ("amazon.titan-embed-text-v2:0", ["a"] * 2049, {}, "input"),
        ("amazon.titan-embed-text-v1", "a", {"dimensions": 256}, "dimensions"),
        ("amazon.nova-lite-v1:0", "a", {}, "model"),
    ],
)
async def test_what_cannot_be_embedded_is_refused_before_it_is_sent(
    up: ScriptedUpstream, make: Make, model: str, texts: Any, more: Json, field: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await make(**given()).embed(embedding(model, texts, **more))
    assert (caught.value.param, up.received) == (field, 0)


@pytest.mark.parametrize("answer", [{}, {"embedding": "x"}, {"embedding": []}, [], {"embedding": None}])
async def test_an_answer_without_vectors_is_an_error(up: ScriptedUpstream, make: Make, answer: Any) -> None:
    up.script(ANY_MODEL, Reply(json=answer, body=msgspec.json.encode(answer)))
    with pytest.raises(UpstreamMalformed):
        await make(**given()).embed(embedding("amazon.titan-embed-text-v2:0", "a"))
