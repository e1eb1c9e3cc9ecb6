"""Anthropic's stream of events as OpenAI's chunks. Pure: bytes of events in, pairs out.

Source: Anthropic's API reference, "Streaming messages". Events of types that are not known are passed over, as it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from farthing.errors import UpstreamMalformed
from farthing.pipeline.tokens import BYTES_PER_TOKEN
from farthing.providers.anthropic_wire import FINISH_REASONS, an_object, declined, head, text_in, usage_of
from farthing.providers.wire import excerpt
from farthing.types import Json

Pair = tuple[Json | None, Json | None]


class MessageReader:
    """One stream. Feed it events until `done`.

    The usage beside each chunk has Anthropic's count of the input and a growing estimate of the output, marked `estimated`, so that a
    stream that breaks or is left is billed for what it was; the last one is Anthropic's own, which is cumulative.
    """

    def __init__(self, name: str) -> None:
        self.done = False
        self._name = name
        self._head: Json = {}
        self._usage: Json = {}
        self._counted = False
        self._said_bytes = 0
        self._role_sent = False
        self._calls = 0
        self._block: Json = {}
        self._pieces: list[str] = []

    def read(self, data: bytes) -> Iterator[Pair]:
        """The pairs of one event. Raises `UpstreamMalformed`, or what an error event means."""
        event = an_object(self._name, data)
        kind = text_in(event, "type")
        if kind == "message_start":
            message = self._part(event, "message", data)
            self._head = head(message, "chat.completion.chunk")
            self._count(message.get("usage"))
            if usage := self._so_far():
                yield None, usage
        elif kind == "message_stop":
            self.done = True
        elif not self._head and kind in {"content_block_start", "content_block_delta", "content_block_stop", "message_delta"}:
            raise UpstreamMalformed(f"{self._name} sent {kind} before message_start")
        elif kind == "content_block_start":
            self._block, self._pieces = self._part(event, "content_block", data), []
            yield from self._chunks(self._begin())
        elif kind == "content_block_delta":
            yield from self._chunks(self._go_on(self._part(event, "delta", data)))
        elif kind == "content_block_stop":
            yield from self._chunks(self._end())
            self._block = {}
        elif kind == "message_delta":
            self._count(event.get("usage"), last=True)
            yield self._finish(self._part(event, "delta", data))
        elif not kind:
            raise UpstreamMalformed(f"{self._name} sent an event without a type: {excerpt(data)}")

    def _begin(self) -> Iterator[Json]:
        block, kind = self._block, text_in(self._block, "type")
        if not self._role_sent and kind in {"text", "tool_use", "thinking", "redacted_thinking"}:
            yield self._role(is_text=kind == "text")
        if kind == "text" and text_in(block, "text"):
            yield {"content": text_in(block, "text")}
        elif kind == "redacted_thinking":
            yield {"thinking_blocks": [block]}
        elif kind == "tool_use":
            function = {"name": text_in(block, "name"), "arguments": ""}
            yield {"tool_calls": [{"index": self._calls, "id": text_in(block, "id"), "type": "function", "function": function}]}
            self._calls += 1

    def _go_on(self, delta: Json) -> Iterator[Json]:
        match delta.get("type"):
            case "text_delta":
                if text := text_in(delta, "text"):
                    self._said(text)
                    yield {"content": text}
            case "thinking_delta":
                if text := text_in(delta, "thinking"):
                    self._said(text)
                    self._pieces.append(text)
                    yield {"reasoning_content": text}
            case "signature_delta":
                self._block["signature"] = text_in(self._block, "signature") + text_in(delta, "signature")
            case "input_json_delta":
                text = text_in(delta, "partial_json")
                if text and self._block.get("type") == "tool_use":
                    self._said(text)
                    self._pieces.append(text)
                    yield self._arguments(text)

    def _end(self) -> Iterator[Json]:
        """A thinking block goes out once more as a whole, with its signature; a call without arguments gets `{}`, which is JSON."""
        block = self._block
        if block.get("type") == "thinking" and block.get("signature"):
            yield {"thinking_blocks": [{**block, "thinking": "".join(self._pieces)}]}
        elif block.get("type") == "tool_use" and not self._pieces:
            yield self._arguments("{}")

    def _arguments(self, text: str) -> Json:
        return {"tool_calls": [{"index": self._calls - 1, "function": {"arguments": text}}]}

    def _finish(self, delta: Json) -> Pair:
        reason = delta.get("stop_reason")
        last: Json = {} if self._role_sent else self._role(is_text=True)
        if reason == "refusal":
            last["refusal"] = declined(delta)
        more: Json = {"stop_sequence": delta["stop_sequence"]} if isinstance(delta.get("stop_sequence"), str) else {}
        return self._chunk(last, FINISH_REASONS.get(str(reason), "stop"), **more), self._so_far()

    def _role(self, *, is_text: bool) -> Json:
        self._role_sent = True
        return {"role": "assistant", "content": "" if is_text else None, "refusal": None}

    def _chunks(self, deltas: Iterator[Json]) -> Iterator[Pair]:
        for delta in deltas:
            yield self._chunk(delta), self._so_far()

    def _chunk(self, delta: Json, reason: str | None = None, **more: Any) -> Json:
        return {**self._head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason, **more}]}

    def _said(self, text: str) -> None:
        self._said_bytes += len(text.encode("utf-8", "surrogatepass"))

    def _count(self, usage: Any, *, last: bool = False) -> None:
        """Take in counts; they are cumulative, and a field that is missing keeps what was said before."""
        if isinstance(usage, dict):
            self._usage |= {key: value for key, value in usage.items() if value is not None}
            self._counted |= last and "output_tokens" in usage

    def _so_far(self) -> Json | None:
        if self._counted:
            return usage_of(self._usage)
        guess = -(-self._said_bytes // BYTES_PER_TOKEN)
        begun = self._usage.get("output_tokens")
        output = max(guess, begun) if type(begun) is int else guess
        usage = usage_of({**self._usage, "output_tokens": output})
        return {**usage, "estimated": True} if usage else None

    def _part(self, event: Json, field: str, data: bytes) -> Json:
        part = event.get(field)
        if not isinstance(part, dict):
            raise UpstreamMalformed(f"{self._name} sent an event without its {field}: {excerpt(data)}")
        return part
