"""The provider contract: what is asked, and what is made of good answers. See `farthing.testing.providers`."""
# ruff: noqa: D102, PLR2004, FBT001  # a test's name is its docstring, literal expectations are its point, pytest hands in the flags

from __future__ import annotations

import base64
import copy
from typing import Any

import msgspec
import pytest

from farthing.pipeline.stream import Fold, replay
from farthing.ports import Call
from farthing.testing.providers_rig import Make, ProviderRig, ask, call, message_of, streamed
from farthing.testing.upstream import ANY_MODEL, ScriptedUpstream
from farthing.testing.vendors import Said, Tokens
from farthing.types import Json, Usage, new_id

both = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])

_SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
_TOOLS: list[Json] = [
    {"type": "function", "function": {"name": "weather", "description": "Tells the weather", "parameters": _SCHEMA}},
    {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}},
]
_CALLS = (("weather", '{"city": "Zürich", "days": 3}'), ("stop", "{}"))
_PIXEL = base64.b64encode(b"\x89PNG not quite").decode()


class AnswersContract(ProviderRig):
    """`ports.Provider.chat`, `.stream` and `.embed` when all goes well."""

    @both
    async def test_a_question_arrives_in_the_vendors_words(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        self.play(up, Said(), streams=streams)
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello!"},
            {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "you?"}]},
        ]
        await ask(make(), call(messages=messages, max_tokens=77, temperature=0.5, stop=["END"]), streams=streams)
        asked = self.last_asked(up)
        assert (asked.model, asked.system, asked.stream) == ("m", "Be brief.", streams)
        assert asked.turns == (("user", "Hi"), ("assistant", "Hello!"), ("user", "And\nyou?"))
        assert (asked.max_tokens, asked.temperature, asked.stop) == (77, 0.5, ("END",))
        assert (asked.tools, asked.tool_choice, asked.schema) == ({}, None, None)

    async def test_the_newer_name_of_the_limit_and_a_single_stop_are_understood(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(), streams=False)
        await make().chat(call(max_completion_tokens=55, stop="END"))
        assert (self.last_asked(up).max_tokens, self.last_asked(up).stop) == (55, ("END",))

    @both
    async def test_the_callers_body_is_not_changed(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        self.play(up, Said(), streams=streams)
        one = call(messages=_tool_history(), tools=_TOOLS, tool_choice="auto", stream=streams, stream_options={"include_usage": False})
        before = copy.deepcopy(one.body)
        await ask(make(), one, streams=streams)
        assert one.body == before

    async def test_fields_left_empty_are_as_good_as_left_out(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(), streams=False)
        nothing: Json = dict.fromkeys(
            ("temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "n", "response_format", "user", "metadata", "tools")
        )
        body = (await make().chat(call(**{**nothing, "tools": None, "tool_choice": None}))).body
        assert message_of(body)["content"] == "Hello"

    async def test_a_whole_answer_is_openais(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(), streams=False)
        completion = await make().chat(call())
        body = completion.body
        assert completion.chunks is None
        assert (body["object"], type(body["id"]), type(body["created"]), type(body["model"])) == ("chat.completion", str, int, str)
        (choice,) = body["choices"]
        assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
        assert {"role": "assistant", "content": "Hello", "refusal": None}.items() <= choice["message"].items()
        assert "tool_calls" not in choice["message"]

    async def test_a_stream_is_openais(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(texts=("Hel", "lo", " you")), streams=True)
        seen, usages = await streamed(make())
        assert usages, "usage comes beside the chunks"
        assert all("usage" not in chunk for chunk in seen)
        assert {chunk["object"] for chunk in seen} == {"chat.completion.chunk"}
        assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in seen}) == 1
        choices = [choice for chunk in seen for choice in chunk["choices"]]
        assert all(choice["index"] == 0 and choice["logprobs"] is None for choice in choices)
        assert choices[0]["delta"]["role"] == "assistant"
        assert not choices[0]["delta"].get("content")
        assert [choice["delta"]["content"] for choice in choices if choice["delta"].get("content")] == ["Hel", "lo", " you"]
        assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]

    @pytest.mark.parametrize("calls", [(), _CALLS], ids=["text", "tools"])
    async def test_a_stream_and_a_whole_answer_say_the_same(self, up: ScriptedUpstream, make: Make, calls: Any) -> None:
        thoughts = ("Let me ", "think") if "reasoning" in self.vendor.features else ()
        said = Said(texts=("Grüße, ", "世界 🌍"), calls=calls, reasoning=thoughts, tokens=Tokens(plain=5, output=7))
        one = call(tools=_TOOLS)
        found = []
        for streams in (False, True):
            self.play(up, said, streams=streams)
            found.append(await ask(make(), one, streams=streams))
        whole, stream = found
        assert _named(message_of(stream)) == _named(message_of(whole))
        assert [choice["finish_reason"] for choice in stream["choices"]] == [choice["finish_reason"] for choice in whole["choices"]]
        assert Usage.of(stream["usage"]) == Usage.of(whole["usage"])

    @both
    async def test_an_answer_survives_being_kept_and_replayed(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        self.play(up, Said(texts=("Hel", "lo"), calls=_CALLS), streams=streams)
        body = await ask(make(), call(tools=_TOOLS), streams=streams)
        fold = Fold()
        for chunk in replay(body):
            fold.add(chunk)
        assert fold.body(body["usage"]) == body

    @both
    async def test_characters_arrive_whole_however_they_are_cut(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        text = 'Grüße, 世界 🌍 \\ " \n\t </s> \u2028'
        said = Said(texts=(text,))
        self.play(up, said, streams=streams)
        if streams:
            data = b"".join(part for half in self.vendor.events(said) for part in half)
            up.script(ANY_MODEL, self.stream_of(*(data[at : at + 7] for at in range(0, len(data), 7))))
        assert message_of(await ask(make(), streams=streams))["content"] == text

    @both
    @pytest.mark.parametrize("end", ["stop", "length"])
    async def test_the_reason_of_the_end_is_told(self, up: ScriptedUpstream, make: Make, streams: bool, end: Any) -> None:
        self.play(up, Said(end=end), streams=streams)
        assert (await ask(make(), streams=streams))["choices"][0]["finish_reason"] == end

    # Tools

    @both
    async def test_tools_are_offered_and_called(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        self.play(up, Said(texts=(), calls=_CALLS), streams=streams)
        body = await ask(make(), call(tools=_TOOLS), streams=streams)
        assert dict(self.last_asked(up).tools) == {one["function"]["name"]: one["function"]["parameters"] for one in _TOOLS}
        calls = message_of(body)["tool_calls"]
        assert [(one["type"], one["function"]["name"]) for one in calls] == [("function", "weather"), ("function", "stop")]
        assert [msgspec.json.decode(one["function"]["arguments"]) for one in calls] == [{"city": "Zürich", "days": 3}, {}]
        assert len({one["id"] for one in calls}) == 2
        assert body["choices"][0]["finish_reason"] == "tool_calls"
        assert message_of(body)["content"] is None

    async def test_deltas_of_tool_calls_come_as_openais_clients_expect(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(texts=("Wait.",), calls=_CALLS), streams=True)
        seen, _ = await streamed(make(), call(tools=_TOOLS))
        deltas = [delta for chunk in seen for choice in chunk["choices"] for delta in choice["delta"].get("tool_calls") or ()]
        assert [delta["index"] for delta in deltas] == sorted(delta["index"] for delta in deltas)
        for at, (name, arguments) in enumerate(_CALLS):
            first, *later = [delta for delta in deltas if delta["index"] == at]
            assert first == {"index": at, "id": first["id"], "type": "function", "function": {"name": name, "arguments": ""}}
            assert all(delta.keys() == {"index", "function"} and delta["function"].keys() == {"arguments"} for delta in later)
            assert msgspec.json.decode("".join(delta["function"]["arguments"] for delta in later)) == msgspec.json.decode(arguments)

    @pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "weather"}}])
    async def test_the_choice_of_a_tool_is_the_callers(self, up: ScriptedUpstream, make: Make, choice: Any) -> None:
        self.play(up, Said(texts=(), calls=_CALLS[:1]), streams=False)
        await make().chat(call(tools=_TOOLS, tool_choice=choice))
        asked = self.last_asked(up)
        assert (asked.tool_choice or "auto") == ("weather" if isinstance(choice, dict) else choice)

    async def test_a_caller_who_wants_no_tool_called_gets_none(self, up: ScriptedUpstream, make: Make) -> None:
        """By saying so or, where the vendor has no word for it, by not offering any."""
        self.play(up, Said(), streams=False)
        await make().chat(call(tools=_TOOLS, tool_choice="none"))
        assert self.last_asked(up).tool_choice == "none" or not self.last_asked(up).tools

    @both
    async def test_results_of_tools_go_back_in_the_history(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        self.play(up, Said(), streams=streams)
        await ask(make(), call(messages=_tool_history(), tools=_TOOLS), streams=streams)
        asked = self.last_asked(up)
        assert asked.calls == (("call_0", "weather", {"city": "Zürich", "days": 3}), ("call_1", "stop", {}))
        assert asked.results == (("call_0", "Sunny, 21 °C"), ("call_1", "stopped"))
        assert asked.turns == (("user", "How is the weather?"), ("assistant", "I look."), ("user", "So?"))

    # Documents and pictures

    @both
    async def test_a_schema_is_asked_for_and_its_document_is_the_text(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        self.needs("schema")
        said = Said(texts=('{"city": "Zü', 'rich", "days": 3}'), document=True)
        self.play(up, said, streams=streams)
        form = {"type": "json_schema", "json_schema": {"name": "trip", "strict": True, "schema": _SCHEMA}}
        body = await ask(make(), call(response_format=form), streams=streams)
        assert self.last_asked(up).schema == _SCHEMA
        assert msgspec.json.decode(message_of(body)["content"]) == {"city": "Zürich", "days": 3}
        assert (body["choices"][0]["finish_reason"], message_of(body).get("tool_calls")) == ("stop", None)

    async def test_a_picture_in_the_question_is_sent(self, up: ScriptedUpstream, make: Make) -> None:
        self.needs("images")
        self.play(up, Said(), streams=False)
        parts = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}"}},
        ]
        await make().chat(call(messages=[{"role": "user", "content": parts}]))
        assert self.last_asked(up).images == (("image/png", _PIXEL),)

    # Usage

    @both
    async def test_usage_is_the_vendors_count(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        self.play(up, Said(tokens=Tokens(plain=11, output=22)), streams=streams)
        usage = (await ask(make(), streams=streams))["usage"]
        assert Usage.of(usage) == Usage(input=11, output=22, source="provider")
        assert usage["total_tokens"] == 33

    @both
    async def test_tokens_of_the_prompt_cache_are_part_of_the_input(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        self.needs("cache_read")
        written = 300 if "cache_write" in self.vendor.features else 0
        self.play(up, Said(tokens=Tokens(plain=10, cache_read=2000, cache_write=written, output=5)), streams=streams)
        usage = Usage.of((await ask(make(), streams=streams))["usage"])
        assert usage == Usage(input=2010 + written, output=5, cache_read=2000, cache_write=written, source="provider")

    @both
    async def test_thinking_is_told_apart_and_counted(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        self.needs("reasoning")
        self.play(up, Said(reasoning=("First, ", "this."), tokens=Tokens(output=40, reasoning=30)), streams=streams)
        body = await ask(make(), streams=streams)
        assert (message_of(body)["reasoning_content"], message_of(body)["content"]) == ("First, this.", "Hello")
        usage = Usage.of(body["usage"])
        assert usage is not None
        assert usage.output == 40, "thinking is part of the output"

    # Embeddings

    async def test_embeddings_are_openais(self, up: ScriptedUpstream, make: Make) -> None:
        self.needs("embeddings")
        up.script(ANY_MODEL, self.vendor.vectors(2, 3))
        body = (await make().embed(Call(upstream_model="m", body={"input": ["a", "b"]}, request_id=new_id()))).body
        assert body["object"] == "list"
        assert [(item["index"], item["embedding"]) for item in body["data"]] == [(0, [1.0, 0.0, 0.0]), (1, [0.0, 1.0, 0.0])]
        usage = Usage.of(body["usage"])
        assert usage is not None
        assert usage.input == 8


def _tool_history() -> list[Json]:
    calls = [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for at, (name, arguments) in enumerate(_CALLS)
    ]
    return [
        {"role": "user", "content": "How is the weather?"},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_0", "content": "Sunny, 21 °C"},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "stopped"}]},
        {"role": "user", "content": "So?"},
    ]


def _named(message: Json) -> Json:
    """A message without what differs from answer to answer: ids, and how the arguments are written."""
    calls = [(one["function"]["name"], msgspec.json.decode(one["function"]["arguments"])) for one in message.get("tool_calls", [])]
    return {key: value for key, value in message.items() if key not in {"tool_calls", "annotations"}} | {"calls": calls}
