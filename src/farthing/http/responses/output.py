"""From a chat model's deltas to the output items of a response, and the events that tell of them. Pure.

A whole answer is one large delta, so that both ways of asking give the same items.
"""

from __future__ import annotations

from typing import Any

import msgspec

from farthing.http.responses.items import ItemIds
from farthing.http.responses.thoughts import wrapped
from farthing.types import Json

Event = tuple[str, Json]
"""Type and fields of a server-sent event, without its sequence number."""

_encode = msgspec.json.Encoder().encode
_MOST_CALLS = 512


class _Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of text: the item it belongs to, and how its parts and events are called."""

    item: str
    prefix: str
    place: str = "content"
    field: str = "text"
    part: str = "response.content_part"
    text: str


_KINDS = {
    "output_text": _Kind(item="message", prefix="msg", text="response.output_text"),
    "refusal": _Kind(item="message", prefix="msg", field="refusal", text="response.refusal"),
    "reasoning_text": _Kind(item="reasoning", prefix="rs", text="response.reasoning_text"),
    "summary_text": _Kind(
        item="reasoning",
        prefix="rs",
        place="summary",
        part="response.reasoning_summary_part",
        text="response.reasoning_summary_text",
    ),
}
_ENDS = {"length": "max_output_tokens", "content_filter": "content_filter"}


class _Part:
    """A text under way. `where` is what its events name it by."""

    def __init__(self, kind: str, where: Json) -> None:
        self.kind = kind
        self.where = where
        self.pieces: list[str] = []
        self.logprobs: list[Json] = []

    def whole(self) -> Json:
        part: Json = {"type": self.kind, _KINDS[self.kind].field: "".join(self.pieces)}
        return {**part, "annotations": [], "logprobs": self.logprobs} if self.kind == "output_text" else part


class _FunctionCall:
    """A function call under way. It is told of when its name is known."""

    def __init__(self, item: Json) -> None:
        self.item = item
        self.index: int | None = None
        self.arguments: list[str] = []


class Output:
    """The items so far. `add` takes the choices of chunks in order; `finish` comes last. Both return the events that are due.

    `summarise`: the model's thoughts were asked for as a summary; they are then told as one.
    """

    def __init__(self, ids: ItemIds, *, summarise: bool) -> None:
        self.items: list[Json] = []
        self.incomplete: str | None = None
        self._ids = ids
        self._thoughts = "summary_text" if summarise else "reasoning_text"
        self._item: Json | None = None
        self._index = 0
        self._part: _Part | None = None
        self._annotations: list[Json] = []
        self._blocks: list[Json] = []
        self._calls: dict[int, _FunctionCall] = {}

    def add(self, choice: Json) -> list[Event]:
        """Take in a chunk's choice."""
        delta = choice["delta"]
        events: list[Event] = []
        thoughts = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(thoughts, str) and thoughts:
            events += self._say(self._thoughts, thoughts, [])
        blocks = delta.get("thinking_blocks")
        if isinstance(blocks, list) and blocks:
            events += self._think(blocks)
        for kind, piece in (("refusal", delta.get("refusal")), ("output_text", delta.get("content"))):
            if isinstance(piece, str) and piece:
                events += self._say(kind, piece, _logprobs(choice) if kind == "output_text" else [])
        annotations = delta.get("annotations")
        self._annotations += [_annotation(one) for one in annotations if isinstance(one, dict)] if isinstance(annotations, list) else []
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                events += self._call(call)
        self.incomplete = _ENDS.get(str(choice.get("finish_reason")), self.incomplete)
        return events

    def finish(self) -> list[Event]:
        """Close what is open. An answer of nothing is an empty text."""
        events: list[Event] = []
        if not self.items and not self._calls:
            events += self._begin("output_text")
        events += self._close_item("incomplete" if self.incomplete else "completed")
        for call in self._calls.values():
            events += self._tell(call)
            events += self._close_call(call)
        return events

    def _say(self, kind: str, piece: str, logprobs: list[Json]) -> list[Event]:
        events = [] if self._part is not None and self._part.kind == kind else self._begin(kind)
        part = self._part
        assert part is not None
        part.pieces.append(piece)
        part.logprobs += logprobs
        events.append((f"{_KINDS[kind].text}.delta", {**part.where, "delta": piece, **_with_logprobs(kind, logprobs)}))
        return events

    def _think(self, blocks: list[Json]) -> list[Event]:
        """Keep what the model wants back, with its thoughts in words if there are any."""
        events: list[Event] = []
        if self._item is None or self._item["type"] != "reasoning":
            events += [*self._close_item("completed"), *self._open_item(_KINDS[self._thoughts])]
        self._blocks += blocks
        return events

    def _begin(self, kind: str) -> list[Event]:
        """Open a part of this kind, in an item that can hold it."""
        known = _KINDS[kind]
        events: list[Event] = []
        if self._item is None or self._item["type"] != known.item:
            events += self._close_item("completed")
            events += self._open_item(known)
        else:
            events += self._close_part()
        assert self._item is not None
        place = {"item_id": self._item["id"], "output_index": self._index}
        number = len(self._item[known.place])
        self._part = _Part(kind, {**place, "summary_index" if known.place == "summary" else "content_index": number})
        events.append((f"{known.part}.added", {**self._part.where, "part": self._part.whole()}))
        return events

    def _open_item(self, kind: _Kind) -> list[Event]:
        item: Json = {"id": self._ids.new(kind.prefix), "type": kind.item}
        if kind.item == "message":
            item |= {"status": "in_progress", "role": "assistant", "content": []}
        else:
            item |= {"summary": [], "content": []}
        self._item, self._index = item, len(self.items)
        self.items.append(item)
        shown = {name: [] if value == [] else value for name, value in item.items()}
        return [("response.output_item.added", {"output_index": self._index, "item": shown})]

    def _close_part(self) -> list[Event]:
        part, self._part = self._part, None
        if part is None:
            return []
        assert self._item is not None
        kind, whole = _KINDS[part.kind], part.whole()
        if part.kind == "output_text":
            whole["annotations"], self._annotations = self._annotations, []
        self._item[kind.place].append(whole)
        text = {**part.where, kind.field: whole[kind.field], **_with_logprobs(part.kind, part.logprobs)}
        return [(f"{kind.text}.done", text), (f"{kind.part}.done", {**part.where, "part": whole})]

    def _close_item(self, status: str) -> list[Event]:
        item = self._item
        if item is None:
            return []
        events = self._close_part()
        self._item = None
        if "status" in item:
            item["status"] = status
        if item["type"] == "reasoning" and self._blocks:
            item["encrypted_content"] = wrapped(self._blocks)
            self._blocks = []
        return [*events, ("response.output_item.done", {"output_index": self._index, "item": item})]

    def _call(self, delta: Json) -> list[Event]:
        index = delta.get("index")
        if not isinstance(index, int) or (index not in self._calls and len(self._calls) >= _MOST_CALLS):
            index = max(self._calls, default=0)
        events: list[Event] = []
        call = self._calls.get(index)
        if call is None:
            events += self._close_item("completed")
            item_id = self._ids.new("fc")
            item = {"id": item_id, "type": "function_call", "status": "in_progress", "call_id": "", "name": "", "arguments": ""}
            call = self._calls[index] = _FunctionCall(item)
        function = delta.get("function")
        function = function if isinstance(function, dict) else {}
        if isinstance(delta.get("id"), str) and not call.item["call_id"] and all(delta["id"] != one["call_id"] for one in self._known()):
            call.item["call_id"] = delta["id"]
        if isinstance(function.get("name"), str):
            call.item["name"] += function["name"]
        if call.item["name"]:
            events += self._tell(call)
        arguments = function.get("arguments")
        piece = arguments if isinstance(arguments, str) else "" if arguments is None else _encode(arguments).decode()
        if piece:
            call.arguments.append(piece)
            if call.index is not None:
                events.append(("response.function_call_arguments.delta", {**_where(call), "delta": piece}))
        return events

    def _known(self) -> list[Json]:
        return [call.item for call in self._calls.values()]

    def _tell(self, call: _FunctionCall) -> list[Event]:
        """Announce a call, once, with the arguments that came before its name."""
        if call.index is not None:
            return []
        call.item["call_id"] = call.item["call_id"] or f"call_{call.item['id'].removeprefix('fc_')}"
        call.index = len(self.items)
        self.items.append(call.item)
        events: list[Event] = [("response.output_item.added", {"output_index": call.index, "item": dict(call.item)})]
        if call.arguments:
            events.append(("response.function_call_arguments.delta", {**_where(call), "delta": "".join(call.arguments)}))
        return events

    def _close_call(self, call: _FunctionCall) -> list[Event]:
        call.item["arguments"] = "".join(call.arguments)
        call.item["status"] = "incomplete" if self.incomplete else "completed"
        return [
            ("response.function_call_arguments.done", {**_where(call), "name": call.item["name"], "arguments": call.item["arguments"]}),
            ("response.output_item.done", {"output_index": call.index, "item": call.item}),
        ]


def _where(call: _FunctionCall) -> Json:
    return {"item_id": call.item["id"], "output_index": call.index}


def _logprobs(choice: Json) -> list[Json]:
    """Log probabilities as responses have them: without nulls."""
    given = choice.get("logprobs")
    tokens = given.get("content") if isinstance(given, dict) else None
    return [{**_token(one), "top_logprobs": [_token(top) for top in _tokens(one.get("top_logprobs"))]} for one in _tokens(tokens)]


def _tokens(given: Any) -> list[Json]:
    return [one for one in given if isinstance(one, dict) and isinstance(one.get("token"), str)] if isinstance(given, list) else []


def _token(one: Json) -> Json:
    return {"token": one["token"], "logprob": one.get("logprob", 0.0), "bytes": one.get("bytes") or list(one["token"].encode())}


def _with_logprobs(kind: str, logprobs: list[Json]) -> Json:
    return {"logprobs": logprobs} if kind == "output_text" else {}


def _annotation(given: Json) -> Json:
    """Chat keeps a citation's fields one level further down."""
    inner = given.get("url_citation")
    return {"type": "url_citation", **inner} if given.get("type") == "url_citation" and isinstance(inner, dict) else given
