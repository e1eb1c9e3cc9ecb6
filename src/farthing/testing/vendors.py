"""What a model vendor's server says and hears, in no vendor's words, so that one set of scenarios can be played over every wire.

A `Vendor` turns `Said` into its wire's bytes and a request on its wire into `Asked`. `OpenAIVendor` is here; Anthropic's is
`farthing.testing.anthropic.AnthropicVendor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

from farthing.testing.echo import Received
from farthing.testing.replies import DONE, Reply, ToolCall, chunks, completion, embeddings, error, sse, usage_object
from farthing.types import Json

Feature = Literal["schema", "reasoning", "cache_read", "cache_write", "images", "embeddings", "error_event", "end_mark"]
"""What a wire can express: a JSON schema for the answer, thinking, usage of a prompt cache (read, written), images in a question,
embeddings, an error in the middle of a stream, and an end mark without which a stream counts as broken."""

STATUSES: Final = (400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 504, 529)
"""Statuses of an error that a vendor must be able to speak (`Vendor.failure`)."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is billed for. Input is the sum of `plain`, `cache_read` and `cache_write`; `output` includes `reasoning`."""

    plain: int = 9
    cache_read: int = 0
    cache_write: int = 0
    output: int = 2
    reasoning: int = 0

    @property
    def input(self) -> int:
        """All input tokens, by OpenAI's convention."""
        return self.plain + self.cache_read + self.cache_write


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a model says. The pieces of `texts` and `reasoning` are what a stream sends one by one.

    `document`: the text is the JSON document that `response_format` asked for; a vendor without such a thing says it by its own detour.
    """

    texts: Sequence[str] = ("Hel", "lo")
    calls: Sequence[ToolCall] = ()
    reasoning: Sequence[str] = ()
    end: Literal["stop", "length", "tool_calls"] | None = None
    tokens: Tokens = Tokens()
    document: bool = False

    @property
    def reason(self) -> str:
        """OpenAI's finish reason."""
        return self.end or ("tool_calls" if self.calls else "stop")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a vendor was asked. Texts of one message are joined with a newline.

    `turns` are (role, text) of the user's and assistant's messages that have text. `calls` are (id, name, arguments) of the tool calls in
    the history, `results` (id, text) of their results. `tools` maps names to schemas. `tool_choice` is auto, none, required or a tool's
    name. `schema` is the JSON schema of the answer. `images` are (media type, base64).
    """

    model: str
    stream: bool
    system: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    calls: tuple[tuple[str, str, Json], ...] = ()
    results: tuple[tuple[str, str], ...] = ()
    tools: Mapping[str, Json] = {}
    tool_choice: str | None = None
    schema: Json | None = None
    images: tuple[tuple[str, str], ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()


class Vendor(Protocol):
    """How a vendor's server speaks. Stateless."""

    features: frozenset[Feature]
    stream_headers: Mapping[str, str]
    """Of a streamed answer: its content type, if it is not `text/event-stream`."""

    def whole(self, said: Said) -> Reply:
        """An answer in one piece."""

    def events(self, said: Said) -> tuple[list[bytes], list[bytes]]:
        """A streamed answer: (up to the last piece of text or tool call, the rest). Each element holds whole events."""

    def failure(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        """An error under one of `STATUSES`, with the type or name that the vendor gives it."""

    def error_event(self, message: str) -> bytes:
        """An error in the middle of a stream: the vendor is out of order. Asked for only where `error_event` is a feature."""

    def vectors(self, count: int, dimensions: int) -> Reply:
        """Embeddings. Asked for only where `embeddings` is a feature."""

    def asked(self, received: Received) -> Asked:
        """What a request asks."""


class OpenAIVendor:
    """OpenAI's wire. See `Vendor`."""

    features: frozenset[Feature] = frozenset(
        {"schema", "reasoning", "cache_read", "cache_write", "images", "embeddings", "error_event", "end_mark"}
    )
    stream_headers: Mapping[str, str] = {}

    def whole(self, said: Said) -> Reply:
        """See `Vendor.whole`."""
        text = "".join(said.texts) if said.texts else None
        reply = completion(text, usage=_usage(said.tokens), tool_calls=said.calls, finish_reason=said.reason)
        if said.reasoning:
            reply.json["choices"][0]["message"]["reasoning_content"] = "".join(said.reasoning)
        return reply

    def events(self, said: Said) -> tuple[list[bytes], list[bytes]]:
        """See `Vendor.events`."""
        found = list(chunks(said.texts, counts=_usage(said.tokens), tool_calls=said.calls, reason=said.reason))
        thoughts = [{**found[0], "choices": [{**found[0]["choices"][0], "delta": {"reasoning_content": one}}]} for one in said.reasoning]
        found[1:1] = thoughts
        coded = [sse(one) for one in found]
        return coded[:-2], [*coded[-2:], DONE]

    def failure(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        """See `Vendor.failure`."""
        return error(status, message, _OPENAI_TYPES.get(status, "invalid_request_error"), headers=headers)

    def error_event(self, message: str) -> bytes:
        """See `Vendor.error_event`."""
        return sse({"error": {"message": message, "type": "server_error", "param": None, "code": None}})

    def vectors(self, count: int, dimensions: int) -> Reply:
        """See `Vendor.vectors`."""
        return embeddings(count, dimensions)

    def asked(self, received: Received) -> Asked:
        """See `Vendor.asked`."""
        body = received.body
        messages = body["messages"]
        texts = [(message["role"], text_of(message.get("content"))) for message in messages]
        choice = body.get("tool_choice")
        return Asked(
            model=body["model"],
            stream=bool(body.get("stream")),
            system="\n".join(text for role, text in texts if role == "system"),
            turns=tuple((role, text) for role, text in texts if role in {"user", "assistant"} and text),
            calls=tuple(_call(one) for message in messages for one in message.get("tool_calls") or ()),
            results=tuple((one["tool_call_id"], text_of(one["content"])) for one in messages if one["role"] == "tool"),
            tools={one["function"]["name"]: one["function"].get("parameters", {}) for one in body.get("tools") or ()},
            tool_choice=choice["function"]["name"] if isinstance(choice, dict) else choice,
            schema=((body.get("response_format") or {}).get("json_schema") or {}).get("schema"),
            images=tuple(_image(part) for message in messages for part in parts_of(message) if part["type"] == "image_url"),
            max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
            temperature=body.get("temperature"),
            stop=tuple([body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or ()),
        )


_OPENAI_TYPES: Final = {429: "requests", 500: "server_error", 502: "server_error", 503: "server_error", 504: "server_error"}


def _usage(tokens: Tokens) -> Json:
    usage = usage_object(tokens.input, tokens.output, cached=tokens.cache_read, reasoning=tokens.reasoning)
    if tokens.cache_write:
        usage["prompt_tokens_details"]["cache_write_tokens"] = tokens.cache_write
    return usage


def text_of(content: Any) -> str:
    """The texts of a message's content, joined with a newline: a string, or parts with `text`."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or () if isinstance(part.get("text"), str))


def parts_of(message: Json) -> list[Json]:
    """The parts of a message's content; none of a plain text."""
    content = message.get("content")
    return content if isinstance(content, list) else []


def _call(call: Json) -> tuple[str, str, Json]:
    return call["id"], call["function"]["name"], msgspec.json.decode(call["function"]["arguments"])


def _image(part: Json) -> tuple[str, str]:
    head, _, data = part["image_url"]["url"].partition(",")
    return head.removeprefix("data:").removesuffix(";base64"), data
