"""/v1/responses through the official SDK, synchronous and asynchronous: texts, tools, schemas, conversations, and what was kept."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
from inside import new_key, query, settled
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import FunctionToolParam, ResponseInputParam
from probes import Probe
from pydantic import BaseModel

from farthing.testing.installation import Installation
from farthing.testing.replies import RESET, Reply, chunks, completion, error, sse, stream, usage_object
from farthing.testing.upstream import ScriptedUpstream

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


class City(BaseModel):
    name: str


def fresh(text: str = "hello") -> str:
    """A question that nobody has asked before."""
    return f"{text} {uuid4()}"


def messages_of(up: ScriptedUpstream) -> list[tuple[str, Any]]:
    """What the upstream was told last."""
    return [(message["role"], message["content"]) for message in up.requests[-1].body["messages"]]


def test_answer_and_headers(sdk: OpenAI, gateway: Installation, up: ScriptedUpstream) -> None:
    up.script("fast", completion("Hello!", usage=usage_object(9, 12, cached=4, reasoning=3)))
    raw = sdk.responses.with_raw_response.create(
        model="fast", input=fresh(), instructions="Be kind.", metadata={"a": "b"}, max_output_tokens=50, temperature=0.5
    )
    response = raw.parse()
    assert response.output_text == "Hello!"
    assert (response.status, response.model, response.metadata, response.temperature) == ("completed", "gpt-4o-mini", {"a": "b"}, 0.5)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (9, 12, 21)
    assert response.usage.input_tokens_details.cached_tokens == 4
    assert response.usage.output_tokens_details.reasoning_tokens == 3
    assert response.id == f"resp_{raw.headers['x-request-id'].replace('-', '')}"
    assert {name: raw.headers[f"x-farthing-{name}"] for name in ("source", "model", "stored")} == {
        "source": "model",
        "model": "fast",
        "stored": "database",
    }
    body = up.requests[-1].body
    assert (body["max_tokens"], body["temperature"], "metadata" in body, "store" in body) == (50, 0.5, False, False)
    assert messages_of(up)[0] == ("system", "Be kind.")
    (row,) = settled(gateway, [raw.headers["x-request-id"]])[raw.headers["x-request-id"]]
    assert (row["operation"], row["tokens_in"], row["tokens_out"], row["status"]) == ("chat", 9, 12, 200)


async def test_asynchronous_answer_and_stream(async_sdk: AsyncOpenAI) -> None:
    question = fresh()
    response = await async_sdk.responses.create(model="fast", input=question)
    assert response.output_text == question
    other = fresh("two words")
    async with async_sdk.responses.stream(model="fast", input=other) as events:
        kinds = [event.type async for event in events]
        assert (await events.get_final_response()).output_text == other
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert await async_sdk.responses.retrieve(response.id) == response


def test_stream_of_text(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", stream(("Hel", "lo"), counts=usage_object(7, 2)))
    raw = sdk.responses.with_raw_response.create(model="fast", input=fresh(), stream=True)
    assert raw.headers["content-type"].startswith("text/event-stream")
    events = list(raw.parse())
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Hello"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "Hello"
    assert last.response.usage is not None
    assert last.response.usage.input_tokens == 7
    kept = sdk.responses.retrieve(last.response.id)
    assert kept == last.response


def test_streamed_answer_of_the_cache_is_the_same(sdk: OpenAI) -> None:
    question = fresh("some words to repeat")
    texts = []
    for source in ("model", "exact", "exact"):
        raw = sdk.responses.with_raw_response.create(model="fast", input=question, stream=True)
        assert raw.headers["x-farthing-source"] == source
        texts.append("".join(event.delta for event in raw.parse() if event.type == "response.output_text.delta"))
    assert texts == [question] * 3
    whole = sdk.responses.with_raw_response.create(model="fast", input=question)
    assert (whole.headers["x-farthing-source"], whole.parse().output_text) == ("exact", question)
    chat = sdk.chat.completions.with_raw_response.create(model="fast", messages=[{"role": "user", "content": question}])
    assert chat.headers["x-farthing-source"] == "exact", "one question is one answer, whichever door it comes in by"


@pytest.mark.parametrize("streaming", [False, True])
def test_tools_and_their_results(streaming: bool, sdk: OpenAI, up: ScriptedUpstream) -> None:  # noqa: FBT001 - parametrized
    calls = [("weather", '{"city": "Bonn"}'), ("weather", '{"city": "Ulm"}')]
    up.script("fast", stream((), tool_calls=calls) if streaming else completion(None, tool_calls=calls))
    question = fresh("weather?")
    if streaming:
        with sdk.responses.stream(model="fast", input=question, tools=[WEATHER], tool_choice="required") as events:
            first: Any = events.get_final_response()
    else:
        first = sdk.responses.create(model="fast", input=question, tools=[WEATHER], tool_choice="required")
    made = [item for item in first.output if item.type == "function_call"]
    assert [(call.call_id, call.name, json.loads(call.arguments)) for call in made] == [
        ("call_0", "weather", {"city": "Bonn"}),
        ("call_1", "weather", {"city": "Ulm"}),
    ]
    sent = up.requests[-1].body
    assert sent["tools"][0]["function"]["parameters"] == WEATHER["parameters"]
    assert sent["tool_choice"] == "required"

    up.script("fast", completion("Rain."))
    results: ResponseInputParam = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"} for call in made]
    by_id = sdk.responses.create(model="fast", input=results, previous_response_id=first.id, tools=[WEATHER])
    told = up.requests[-1].body["messages"]
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in told[1]["tool_calls"]] == ["call_0", "call_1"]
    by_hand: Any = [{"role": "user", "content": question}, *(item.to_dict() for item in first.output), *results]
    raw = sdk.responses.with_raw_response.create(model="fast", input=by_hand, tools=[WEATHER])
    assert raw.headers["x-farthing-source"] == "exact", "the conversation sent whole is the one continued by id"
    assert by_id.output_text == raw.parse().output_text == "Rain."
    references: Any = [
        {"role": "user", "content": question},
        *({"type": "item_reference", "id": call.id} for call in made),
        *results,
    ]
    raw = sdk.responses.with_raw_response.create(model="fast", input=references, tools=[WEATHER])
    assert raw.headers["x-farthing-source"] == "exact", "and so is the one with references"


def test_parse_gives_an_object(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", completion('{"name": "Bonn"}'))
    response = sdk.responses.parse(model="fast", input=fresh(), text_format=City)
    assert response.output_parsed == City(name="Bonn")
    form = up.requests[-1].body["response_format"]
    assert (form["type"], form["json_schema"]["name"], form["json_schema"]["strict"]) == ("json_schema", "City", True)


def test_reasoning_is_an_item_of_its_own(sdk: OpenAI, up: ScriptedUpstream) -> None:
    reply = completion("42")
    reply.json["choices"][0]["message"]["reasoning_content"] = "6 times 7"
    up.script("fast", reply)
    response = sdk.responses.create(model="fast", input=fresh(), reasoning={"effort": "low", "summary": "auto"})
    thought = response.output[0]
    assert thought.type == "reasoning"
    assert thought.summary[0].text == "6 times 7"
    assert response.output_text == "42"
    assert up.requests[-1].body["reasoning_effort"] == "low"


@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_cut_off_is_incomplete(streaming: bool, sdk: OpenAI, up: ScriptedUpstream) -> None:  # noqa: FBT001 - parametrized
    up.script("fast", stream(("Hel",), finish_reason="length") if streaming else completion("Hel", finish_reason="length"))
    if streaming:
        *_, last = sdk.responses.create(model="fast", input=fresh(), stream=True)
        assert last.type == "response.incomplete"
        response = last.response
    else:
        response = sdk.responses.create(model="fast", input=fresh())
    assert (response.status, response.output_text) == ("incomplete", "Hel")
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


def test_a_stream_that_breaks_raises_after_it_has_failed(sdk: OpenAI, up: ScriptedUpstream) -> None:
    begun = [sse(event) for event in chunks(("Hel", "lo"))][:2]
    up.script("fast", Reply(parts=(*begun, 0.05, RESET)))
    seen: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        seen.extend(event.type for event in sdk.responses.create(model="fast", input=fresh(), stream=True))
    assert seen[-1] == "response.failed"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["code"] == "upstream_unavailable"


def test_errors_are_openais(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", error(429, "slow down", "requests", "rate_limit_exceeded", {"retry-after": "7"}))
    with pytest.raises(openai.RateLimitError) as limited:
        sdk.responses.create(model="fast", input=fresh())
    assert limited.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.NotFoundError) as unknown:
        sdk.responses.create(model="nobody", input="x")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as background:
        sdk.responses.create(model="fast", input="x", background=True)
    assert background.value.param == "background"


def test_a_conversation_goes_on_by_id(sdk: OpenAI, up: ScriptedUpstream) -> None:
    topic = fresh("topic")
    first = sdk.responses.create(model="fast", input=topic, instructions="Only now.")
    second = sdk.responses.create(model="fast", input="more", previous_response_id=first.id, instructions="Be brief.")
    assert messages_of(up) == [("system", "Be brief."), ("user", topic), ("assistant", topic), ("user", "more")]
    third = sdk.responses.create(model="fast", input=[{"role": "user", "content": "even more"}], previous_response_id=second.id)
    assert messages_of(up) == [("user", topic), ("assistant", topic), ("user", "more"), ("assistant", "more"), ("user", "even more")]
    assert third.previous_response_id == second.id
    branch = sdk.responses.create(model="fast", input="instead", previous_response_id=first.id)
    assert messages_of(up) == [("user", topic), ("assistant", topic), ("user", "instead")]
    assert branch.output_text == "instead"


def test_the_same_words_in_another_conversation_are_another_question(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", completion("A"), completion("B"), completion("yes, A"), completion("yes, B"))
    talks = [sdk.responses.create(model="fast", input=fresh()) for _ in range(2)]
    sources = []
    for talk in (*talks, *talks):
        raw = sdk.responses.with_raw_response.create(model="fast", input="sure?", previous_response_id=talk.id)
        sources.append((raw.headers["x-farthing-source"], raw.parse().output_text))
    assert sources == [("model", "yes, A"), ("model", "yes, B"), ("exact", "yes, A"), ("exact", "yes, B")]


def test_the_history_counts_for_what_a_request_may_cost(sdk: OpenAI, gateway: Installation, up: ScriptedUpstream) -> None:
    """The upstream gives no usage: what is estimated is the whole conversation, not the few words of its last turn."""
    long = fresh("word " * 400)
    first = sdk.responses.create(model="fast", input=long)
    up.script("fast", completion("ok", usage=False))
    raw = sdk.responses.with_raw_response.create(model="fast", input="so?", previous_response_id=first.id)
    (row,) = settled(gateway, [raw.headers["x-request-id"]])[raw.headers["x-request-id"]]
    assert row["usage_source"] == "estimated"
    assert row["tokens_in"] > 500


def test_what_was_kept_is_listed_and_deleted(sdk: OpenAI) -> None:
    first = sdk.responses.create(model="fast", input=fresh("one"))
    second = sdk.responses.create(model="fast", input=[{"role": "user", "content": "two"}], previous_response_id=first.id)
    listed = list(sdk.responses.input_items.list(second.id, order="asc", limit=1))
    assert [item.type for item in listed] == ["message"] * 3
    assert [item.role for item in listed if item.type == "message"] == ["user", "assistant", "user"]
    newest_first = list(sdk.responses.input_items.list(second.id))
    assert [item.id for item in newest_first] == [item.id for item in reversed(listed)]

    sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(model="fast", input="x", previous_response_id=second.id)
    assert (caught.value.code, caught.value.param) == ("previous_response_not_found", "previous_response_id")
    assert first.id in caught.value.message
    assert len(list(sdk.responses.input_items.list(second.id))) == 1


def test_store_false_keeps_nothing(sdk: OpenAI, gateway: Installation) -> None:
    raw = sdk.responses.with_raw_response.create(model="fast", input=fresh(), store=False)
    response = raw.parse()
    assert response.to_dict()["store"] is False
    assert "x-farthing-stored" not in raw.headers
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(response.id)
    assert query(gateway, "SELECT 1 FROM farthing.responses WHERE id = %s::uuid", response.id.removeprefix("resp_")) == []


def test_another_tenant_sees_nothing_of_it(sdk: OpenAI, gateway: Installation) -> None:
    mine = sdk.responses.create(model="fast", input=fresh("mine"))
    key = new_key(gateway, "rival")["key"]
    with OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, timeout=20) as rival:
        for attempt in (rival.responses.retrieve, rival.responses.delete, rival.responses.input_items.list):
            with pytest.raises(openai.NotFoundError):
                attempt(mine.id)
        with pytest.raises(openai.BadRequestError) as caught:
            rival.responses.create(model="fast", input="what was that?", previous_response_id=mine.id)
        assert caught.value.code == "previous_response_not_found"
        reference: Any = [{"type": "item_reference", "id": mine.output[0].id}]
        with pytest.raises(openai.BadRequestError, match="not found"):
            rival.responses.create(model="fast", input=reference)
    assert sdk.responses.retrieve(mine.id).id == mine.id


def test_what_is_at_rest_is_sealed_and_the_log_knows_no_word_of_it(sdk: OpenAI, gateway: Installation) -> None:
    canary = f"canary-{uuid4().hex}"
    response = sdk.responses.create(model="fast", input=canary, user="ann", extra_body={"farthing": {"cache": "off", "user": "ann"}})
    (row,) = query(gateway, "SELECT * FROM farthing.responses WHERE id = %s::uuid", response.id.removeprefix("resp_"))
    assert (row["user_id"], row["previous_id"]) == ("ann", None)
    assert canary.encode() not in bytes(row["payload"])
    assert (row["expires_at"] - row["created_at"]).total_seconds() == 86_400
    assert canary not in gateway.log.read_text(encoding="utf-8")
    key = gateway.data / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert query(gateway, "SELECT count(*) AS n FROM farthing.responses WHERE payload LIKE %s", b"%canary%")[0]["n"] == 0


NONE = "0" * 32
BODIES: list[tuple[dict[str, Any], str | None]] = [
    ({}, "model"),
    ({"model": "fast"}, "input"),
    ({"model": "fast", "input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
    ({"model": "fast", "input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
    ({"model": "fast", "input": "x", "previous_response_id": "a\0b"}, "previous_response_id"),
    ({"model": "fast", "input": [{"type": "item_reference", "id": "msg_" + "0" * 36}]}, "input"),
    ({"model": "fast", "input": [{"type": "item_reference", "id": f"msg_{n:032x}0000"} for n in range(101)]}, "input"),
    ({"model": "fast", "input": "x", "tools": [{"type": "web_search_preview"}]}, "tools[0].type"),
    ({"model": "fast", "input": "x", "farthing": {"nonsense": 1}}, "farthing.nonsense"),
    ({"model": "fast", "input": "x", "store": "yes"}, "store"),
]


def test_wrong_bodies_are_refused_by_name_and_recorded(gateway: Installation, probe: Probe) -> None:
    """Each of them once in the ledger, none of them at a provider."""
    with probe.adds(requests=len(BODIES), attempts=0, errors=len(BODIES)), httpx.Client(base_url=gateway.url, timeout=20) as client:
        for body, param in BODIES:
            answer = client.post("/v1/responses", json=body, headers={"authorization": f"Bearer {gateway.key}"})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), body
            assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "resp_1", 404),
        ("GET", f"resp_{NONE}", 404),
        ("DELETE", f"resp_{NONE}", 404),
        ("GET", f"resp_{NONE}/nothing", 404),
        ("GET", f"resp_{NONE}?stream=true", 400),
        ("POST", f"resp_{NONE}", 405),
        ("POST", f"resp_{NONE}/cancel", 404),
        ("POST", "compact", 404),
        ("DELETE", f"resp_{NONE}/input_items", 405),
        ("GET", "%00", 404),
    ],
)
def test_doors_below_answer_as_openais_clients_expect(method: str, path: str, status: int, gateway: Installation) -> None:
    answer = httpx.request(method, f"{gateway.url}/v1/responses/{path}", headers={"authorization": f"Bearer {gateway.key}"}, timeout=20)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]


def test_local_model_holds_a_conversation(local: Installation) -> None:
    with OpenAI(base_url=local.base_url, api_key=local.key, max_retries=0, timeout=60) as home:
        first = home.responses.create(model="local", input=fresh("Name a coin."), instructions="Be brief.", max_output_tokens=24)
        with home.responses.stream(
            model="local",
            input=[{"role": "developer", "content": "One word."}, {"role": "user", "content": "Another?"}],
            previous_response_id=first.id,
            max_output_tokens=24,
        ) as events:
            deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
            kinds = {item.type for item in home.responses.input_items.list(first.id)}
        assert first.output_text
        assert "".join(deltas)
        assert kinds == {"message"}
        parsed = home.responses.parse(model="local", input=fresh("Name a city."), text_format=City, max_output_tokens=60)
        assert parsed.status == "incomplete" or isinstance(parsed.output_parsed, City)
