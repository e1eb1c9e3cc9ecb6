"""The exact cache through the real server: a hit is the miss again, whichever way either travels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from inside import new_key
from openai import OpenAI
from probes import Probe

from farthing.testing.installation import Installation
from farthing.testing.replies import Reply, completion, rate_limited, stream, usage_object
from farthing.testing.upstream import ScriptedUpstream

Json = dict[str, Any]

TOOL_CALLS = [("weather", '{"city": "Bonn"}'), ("time", '{"zone": "Europe/Berlin"}')]
LOGPROBS = {
    "content": [
        {"token": "Hel", "logprob": -0.1, "bytes": [72, 101, 108], "top_logprobs": []},
        {"token": "lo", "logprob": -0.2, "bytes": [108, 111], "top_logprobs": []},
    ],
    "refusal": None,
}


def _with_logprobs() -> Reply:
    reply = completion("Hello")
    reply.json["choices"][0]["logprobs"] = LOGPROBS
    return reply


WHOLE = {
    "text": completion("Grüße, 世界 🌍!\n  Two  lines. "),
    "tools": completion(None, tool_calls=TOOL_CALLS),
    "text_and_tools": completion("Let me look.", tool_calls=TOOL_CALLS),
    "choices": completion("text", n=3),
    "logprobs": _with_logprobs(),
    "length": completion("cut", finish_reason="length"),
    "reasoning": completion("yes", usage=usage_object(10, 20, cached=3, reasoning=7)),
    "without_usage": completion("no count", usage=False),
}
STREAMED = {
    "text": stream(("Grüße", ", ", "世界", " 🌍!\n  Two  lines. ")),
    "tools": stream((), tool_calls=TOOL_CALLS),
    "choices": stream(("a", "b", "c"), n=3),
    "length": stream(("cut",), finish_reason="length"),
    "without_usage": stream(("no ", "count"), usage=False),
    "usage_on_the_last_choice": stream(("x",), usage="on_last_choice_chunk"),
}


def question(**more: Any) -> Json:
    return {"model": "fast", "messages": [{"role": "user", "content": f"hello {uuid4()}"}], **more}


class Caller:
    """Sends bodies as they are and sees what comes back."""

    def __init__(self, http: httpx.Client, farthing: Installation, key: str | None = None) -> None:
        self._http = http
        self._url = farthing.base_url
        self._key = key or farthing.key

    def post(self, body: Json | str, path: str = "/chat/completions", **headers: str) -> httpx.Response:
        data = body if isinstance(body, str) else json.dumps(body)
        sent = {"authorization": f"Bearer {self._key}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        answer = self._http.post(self._url + path, content=data.encode(), headers=sent, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer

    def whole(self, body: Json) -> tuple[str, Json]:
        """What answered, and the answer."""
        answer = self.post({**body, "stream": False})
        return answer.headers["x-farthing-source"], answer.json()

    def stream(self, body: Json, **options: bool) -> tuple[str, list[Json]]:
        """What answered, and the chunks."""
        answer = self.post({**body, "stream": True, "stream_options": {"include_usage": True, **options}})
        events = [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event.startswith("data: ")]
        assert events.pop() == "[DONE]"
        return answer.headers["x-farthing-source"], [json.loads(event) for event in events]


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


@pytest.fixture
def caller(http: httpx.Client, gateway: Installation) -> Caller:
    return Caller(http, gateway)


def lasting(body: Json) -> Json:
    """An answer, or a chunk, without what a hit has of its own."""
    kept = {name: value for name, value in body.items() if name not in {"id", "created"}}
    if kept.get("usage"):
        details = {name: value for name, value in kept["usage"].get("prompt_tokens_details", {}).items() if name != "cached_tokens"}
        kept["usage"] = {**{name: value for name, value in kept["usage"].items() if name != "prompt_tokens_details"}, "d": details or None}
    return kept


def folded(chunks: list[Json]) -> Json:
    """What a client makes of a stream: text and tool calls of each choice, reasons of their ends, usage."""
    said: dict[int, Json] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            whole = said.setdefault(choice["index"], {"text": "", "calls": {}, "end": None})
            whole["text"] += choice["delta"].get("content") or ""
            whole["end"] = choice["finish_reason"] or whole["end"]
            for delta in choice["delta"].get("tool_calls") or ():
                call = whole["calls"].setdefault(delta["index"], {"id": None, "name": "", "arguments": ""})
                call["id"] = delta.get("id") or call["id"]
                for part in ("name", "arguments"):
                    call[part] += delta["function"].get(part) or ""
    return {"choices": said, "usage": lasting(chunks[-1])["usage"]}


def unfolded(body: Json) -> Json:
    """The same of a whole answer."""
    said = {}
    for choice in body["choices"]:
        calls = {
            at: {"id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
            for at, call in enumerate(choice["message"].get("tool_calls") or ())
        }
        said[choice["index"]] = {"text": choice["message"]["content"] or "", "calls": calls, "end": choice["finish_reason"]}
    return {"choices": said, "usage": lasting(body)["usage"]}


@pytest.mark.parametrize("name", WHOLE)
def test_hit_equals_its_miss_in_every_lasting_field(name: str, caller: Caller, probe: Probe, up: ScriptedUpstream) -> None:
    asked = question()
    with probe.adds(requests=3, attempts=1, errors=0):
        up.script("fast", WHOLE[name], Reply(status=500))
        (first, miss), (second, hit), (third, again) = (caller.whole(asked) for _ in range(3))
    assert (first, second, third) == ("model", "exact", "exact")
    assert lasting(hit) == lasting(miss)
    assert list(hit) == list(miss)
    assert hit["usage"]["prompt_tokens_details"]["cached_tokens"] == hit["usage"]["prompt_tokens"]
    assert len({miss["id"], hit["id"], again["id"]}) == 3
    assert hit["id"].startswith("chatcmpl-")
    assert hit["created"] >= miss["created"]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_miss_serves_a_streamed_hit(name: str, caller: Caller, up: ScriptedUpstream) -> None:
    asked = question()
    up.script("fast", WHOLE[name], Reply(status=500))
    _, miss = caller.whole(asked)
    source, chunks = caller.stream(asked)
    assert source == "exact"
    assert folded(chunks) == unfolded(miss)
    assert len({(chunk["id"], chunk["created"], chunk["model"], chunk["object"]) for chunk in chunks}) == 1
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert all({"index", "delta", "logprobs", "finish_reason"} <= set(choice) for chunk in chunks for choice in chunk["choices"])


@pytest.mark.parametrize("name", STREAMED)
def test_streamed_miss_serves_streamed_and_whole_hits(name: str, caller: Caller, probe: Probe, up: ScriptedUpstream) -> None:
    asked = question()
    with probe.adds(requests=3, attempts=1, errors=0):
        up.script("fast", STREAMED[name], Reply(status=500))
        first, chunks = caller.stream(asked)
        second, replayed = caller.stream(asked)
        third, whole = caller.whole(asked)
    assert (first, second, third) == ("model", "exact", "exact")
    assert [lasting(chunk) for chunk in replayed] == [lasting(chunk) for chunk in chunks]
    assert folded(chunks) == unfolded(whole)
    assert whole["object"] == "chat.completion"
    assert all({"role", "content", "refusal"} <= set(choice["message"]) and "logprobs" in choice for choice in whole["choices"])


def test_log_probabilities_are_replayed_with_their_tokens(caller: Caller, up: ScriptedUpstream) -> None:
    asked = question(logprobs=True)
    up.script("fast", WHOLE["logprobs"])
    caller.whole(asked)
    _, chunks = caller.stream(asked)
    seen = [(choice["delta"].get("content"), choice["logprobs"]) for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert [(text, [token["token"] for token in logprobs["content"]]) for text, logprobs in seen] == [("Hel", ["Hel"]), ("lo", ["lo"])]


def test_usage_of_a_streamed_hit_comes_only_when_asked_for(caller: Caller) -> None:
    asked = question()
    caller.whole(asked)
    source, chunks = caller.stream(asked, include_usage=False)
    assert source == "exact"
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)


def test_hit_costs_nothing_and_saves_what_the_miss_cost(caller: Caller, gateway: Installation, probe: Probe, up: ScriptedUpstream) -> None:
    asked = question()
    up.script("fast", completion("dear", usage=usage_object(1_000_000, 500_000)))
    probe.quiet()
    before = gateway.report(by="source")["by_source"].get("exact", {"requests": 0, "saved_microusd": 0})
    miss, hit = caller.post(asked), caller.post(asked)
    assert [(one.headers["x-farthing-cost-usd"], one.headers["x-farthing-saved-usd"]) for one in (miss, hit)] == [
        ("2.000000", "0.000000"),
        ("0.000000", "2.000000"),
    ]
    probe.quiet()
    after = gateway.report(by="source")["by_source"]["exact"]
    assert (after["requests"] - before["requests"], after["saved_microusd"] - before["saved_microusd"]) == (1, 2_000_000)
    streamed = caller.post({**asked, "stream": True})
    assert streamed.headers["x-farthing-saved-usd"] == "2.000000"
    assert streamed.text.endswith(": farthing cost-usd=0.000000 saved-usd=2.000000\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    "also",
    [
        {"user": "someone"},
        {"metadata": {"a": "b"}},
        {"store": True},
        {"safety_identifier": "s"},
        {"prompt_cache_key": "k"},
        {"service_tier": "flex"},
        {"seed": None, "tools": None},
        {"farthing": {"user": "u", "task_type": "t"}},
        {"farthing": {"namespace": "default", "cache": "on"}},
        {"stream_options": None},
    ],
    ids=json.dumps,
)
def test_what_does_not_change_the_answer_is_not_in_the_key(also: Json, caller: Caller) -> None:
    asked = question()
    caller.whole(asked)
    assert caller.whole({**asked, **also})[0] == "exact"


def test_layout_of_the_json_is_not_in_the_key(caller: Caller) -> None:
    text = str(uuid4())
    caller.post(f'{{"model": "fast", "temperature": 0.5, "messages": [{{"role": "user", "content": "caf\\u00e9 {text}"}}]}}')
    again = caller.post(f'{{ "messages":[{{"content":"café {text}","role":"user"}}],\n"temperature":5e-1,"model":"fast"}}')
    assert again.headers["x-farthing-source"] == "exact"


@pytest.mark.parametrize(
    "also",
    [
        {"model": "strong"},
        {"temperature": 0},
        {"seed": 1},
        {"max_tokens": 5},
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True},
        {"x_unknown": 1},
        {"farthing": {"namespace": "other"}},
    ],
    ids=json.dumps,
)
def test_what_may_change_the_answer_is_in_the_key(also: Json, caller: Caller) -> None:
    asked = question()
    caller.whole(asked)
    assert caller.whole({**asked, **also})[0] == "model"
    assert caller.whole({**asked, **also})[0] == "exact"


def test_namespace_by_header_and_by_body_are_the_same(caller: Caller) -> None:
    asked = question()
    caller.whole({**asked, "farthing": {"namespace": "ours"}})
    assert caller.post(asked, x_farthing_namespace="ours").headers["x-farthing-source"] == "exact"
    assert caller.post({**asked, "farthing": {"namespace": "ours"}}, x_farthing_namespace="theirs").headers["x-farthing-source"] == "exact"
    assert caller.post(asked, x_farthing_namespace="theirs").headers["x-farthing-source"] == "model"


def test_off_neither_reads_nor_writes(caller: Caller, up: ScriptedUpstream) -> None:
    asked, off = question(), {"farthing": {"cache": "off"}}
    up.script("fast", completion("one"), completion("two"), completion("three"), Reply(status=500))
    assert caller.whole({**asked, **off})[0] == "model"
    assert caller.whole(asked)[1]["choices"][0]["message"]["content"] == "two"
    assert caller.whole({**asked, **off})[1]["choices"][0]["message"]["content"] == "three"
    assert caller.whole(asked)[1]["choices"][0]["message"]["content"] == "two"


@pytest.mark.parametrize("streamed", [False, True])
def test_refresh_does_not_read_and_writes(streamed: bool, caller: Caller, up: ScriptedUpstream) -> None:  # noqa: FBT001 - a case
    asked, refresh = question(), {"farthing": {"cache": "refresh"}}
    up.script("fast", completion("old"), stream(("ne", "w")) if streamed else completion("new"), Reply(status=500))
    assert caller.whole(asked)[0] == "model"
    assert (caller.stream if streamed else caller.whole)({**asked, **refresh})[0] == "model"
    source, answer = caller.whole(asked)
    assert (source, answer["choices"][0]["message"]["content"]) == ("exact", "new")


@pytest.mark.parametrize("streamed", [False, True])
def test_tenants_never_share_an_answer_and_users_of_one_do(
    streamed: bool,  # noqa: FBT001 - a case
    http: httpx.Client,
    gateway: Installation,
    up: ScriptedUpstream,
) -> None:
    red, pink, blue = (
        Caller(http, gateway, new_key(gateway, tenant, user=user)["key"]) for tenant, user in (("red", "a"), ("red", "b"), ("blue", "a"))
    )
    asked = question(stream=streamed)
    received = up.received
    assert [one.post(asked).headers["x-farthing-source"] for one in (red, blue, pink, blue, red)] == [
        "model",
        "model",
        "exact",
        "exact",
        "exact",
    ]
    assert up.received == received + 2


@pytest.mark.parametrize(
    "reply",
    [
        completion("filtered", finish_reason="content_filter"),
        completion(None),
        completion(""),
        Reply(json={**completion("x").json, "choices": [{"message": {"content": None, "refusal": "I will not"}}]}),
    ],
    ids=["filtered", "null", "empty", "refused"],
)
def test_answer_that_is_none_is_not_kept(reply: Reply, caller: Caller, up: ScriptedUpstream) -> None:
    asked = question()
    up.script("fast", reply)
    assert [caller.whole(asked)[0] for _ in range(2)] == ["model", "model"]


def test_errors_are_not_kept(sdk: OpenAI, caller: Caller, up: ScriptedUpstream) -> None:
    asked = question()
    up.script("fast", rate_limited(), completion("well again"), Reply(status=500))
    assert (
        sdk.with_options(max_retries=0)._client.post(f"{sdk.base_url}chat/completions", json=asked, headers=sdk.auth_headers).status_code
        == 429
    )
    assert [caller.whole(asked)[0] for _ in range(2)] == ["model", "exact"]


@pytest.mark.parametrize(("temperature", "kept"), [(None, True), (1, True), (1.1, False), (2, False), (0, True)])
def test_hot_requests_are_not_cached_where_the_settings_say_so(
    temperature: float | None, *, kept: bool, http: httpx.Client, fleet: Installation
) -> None:
    asked = {**question(model="pair"), "temperature": temperature}
    assert [Caller(http, fleet).whole(asked)[0] for _ in range(2)] == ["model", "exact" if kept else "model"]


def test_answer_that_is_too_big_is_not_kept(http: httpx.Client, fleet: Installation, up: ScriptedUpstream) -> None:
    up.script("first", completion("x" * 20_000))
    asked = question(model="pair")
    assert [Caller(http, fleet).whole(asked)[0] for _ in range(2)] == ["model", "model"]
    up.script("first", stream(("x",) * 150))
    assert [Caller(http, fleet).stream(asked)[0] for _ in range(2)] == ["model", "model"]


def test_answer_of_a_fallback_is_kept(http: httpx.Client, fleet: Installation, up: ScriptedUpstream) -> None:
    up.script("first", Reply(status=500), completion("not asked"))
    asked = question(model="pair")
    miss, hit = Caller(http, fleet).post(asked), Caller(http, fleet).post(asked)
    assert (miss.headers["x-farthing-route"], hit.headers["x-farthing-source"]) == ("fallback", "exact")
    assert hit.json()["choices"] == miss.json()["choices"]


def test_embeddings_are_kept_in_both_encodings(fleet_sdk: OpenAI, fleet_probe: Probe, up: ScriptedUpstream) -> None:
    texts = [f"text {at} {uuid4()}" for at in range(3)]
    with fleet_probe.adds(requests=3, attempts=1, errors=0):
        packed = fleet_sdk.embeddings.with_raw_response.create(model="vectors", input=texts)
        plain = fleet_sdk.embeddings.with_raw_response.create(model="vectors", input=texts, encoding_format="float")
        again = fleet_sdk.embeddings.with_raw_response.create(model="vectors", input=texts)
    assert [one.headers["x-farthing-source"] for one in (packed, plain, again)] == ["model", "exact", "exact"]
    axes = [[1.0 if axis == at else 0.0 for axis in range(8)] for at in range(3)]
    for one in (packed, plain, again):
        answer = one.parse()
        assert [(item.index, item.object, item.embedding) for item in answer.data] == [(at, "embedding", axes[at]) for at in range(3)]
        assert (answer.object, answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("list", "vectors", 12, 12)
    assert isinstance(packed.http_response.json()["data"][0]["embedding"], str)
    assert (up.requests[-1].path, up.requests[-1].body["encoding_format"]) == ("/v1/embeddings", "float")
    assert fleet_sdk.embeddings.create(model="vectors", input=[[1, 2, 3]], dimensions=4).data[0].embedding == [1.0, 0.0, 0.0, 0.0]
