"""Items of a conversation, and the chat messages that they are. Pure.

An item is kept in the shape in which OpenAI lists it (`GET /v1/responses/{id}/input_items`): texts are lists of parts, and each has an id.
Ids name the response that an item came with, so that an `item_reference` can be followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar
from uuid import UUID

from farthing.errors import InvalidRequest
from farthing.http.responses.body import InputItem, InputPart
from farthing.types import Json

_T = TypeVar("_T")
_RESPONSE = re.compile(r"resp_([0-9a-f]{32})")
_ITEM = re.compile(r"[a-z]+_([0-9a-f]{32})[0-9a-f]{4,8}")
_ROLES = frozenset({"user", "assistant", "system", "developer"})
_TEXTS = frozenset({"input_text", "output_text", "text"})
_MEDIA = frozenset({"input_image", "input_file", "input_audio"})


def response_name(response_id: UUID) -> str:
    """The id of a response as clients see it."""
    return f"resp_{response_id.hex}"


def response_id(name: str) -> UUID | None:
    """The other way round; None for what is no id of ours."""
    match = _RESPONSE.fullmatch(name)
    return UUID(match[1]) if match else None


def response_of(item_id: str) -> UUID | None:
    """The response that an item came with; None for what is no id of ours."""
    match = _ITEM.fullmatch(item_id)
    return UUID(match[1]) if match else None


class ItemIds:
    """The ids of one response's items, in order: those of its input first."""

    def __init__(self, response: UUID) -> None:
        self._response = response.hex
        self._count = 0

    def new(self, kind: str) -> str:
        """The next one, such as msg_…."""
        self._count += 1
        return f"{kind}_{self._response}{self._count - 1:04x}"


def read_items(given: str | Sequence[InputItem] | None, ids: ItemIds) -> list[Json]:
    """The input as items. Raises `InvalidRequest` for what a chat model cannot be told."""
    if isinstance(given, str):
        given = [InputItem(role="user", content=given)]
    return [_item(item, f"input[{at}]", ids) for at, item in enumerate(given or ())]


def _item(item: InputItem, where: str, ids: ItemIds) -> Json:
    kind = item.type or ("message" if item.role else "item_reference")
    match kind:
        case "message":
            return _message(item, where, ids)
        case "function_call":
            named = {name: _needed(getattr(item, name), f"{where}.{name}") for name in ("call_id", "name", "arguments")}
            return {"id": ids.new("fc"), "type": kind, "status": "completed", **named}
        case "function_call_output":
            call_id = _needed(item.call_id, f"{where}.call_id")
            if item.output is None:
                raise InvalidRequest(f"{where}.output is missing", param=f"{where}.output")
            output = item.output if isinstance(item.output, str) else _parts(item.output, f"{where}.output", _TEXTS | _MEDIA)
            return {"id": ids.new("fco"), "type": kind, "status": "completed", "call_id": call_id, "output": output}
        case "reasoning":
            return _reasoning(item, ids)
        case "item_reference":
            return {"type": kind, "id": _needed(item.id, f"{where}.id")}
        case _:
            raise InvalidRequest(
                f"{where}.type: items of type {kind[:64]!r} cannot be given to a chat model; "
                "known: message, function_call, function_call_output, reasoning, item_reference",
                param=f"{where}.type",
            )


def _needed(value: str | None, where: str) -> str:
    if not value and not (value == "" and where.endswith("arguments")):
        raise InvalidRequest(f"{where} is missing", param=where)
    return value or ""


def _message(item: InputItem, where: str, ids: ItemIds) -> Json:
    if item.role not in _ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(sorted(_ROLES))}", param=f"{where}.role")
    if item.content is None:
        raise InvalidRequest(f"{where}.content is missing", param=f"{where}.content")
    own = item.role == "assistant"
    if isinstance(item.content, str):
        content: list[Json] = [_text(item.content, own=own)]
    else:
        known = _TEXTS | ({"refusal"} if own else _MEDIA)
        content = _parts(item.content, f"{where}.content", known, own=own)
    return {"id": ids.new("msg"), "type": "message", "status": "completed", "role": item.role, "content": content}


def _reasoning(item: InputItem, ids: ItemIds) -> Json:
    """A chat model is told of earlier thoughts only what it asked to have back: see `thoughts`."""
    kept: Json = {"id": ids.new("rs"), "type": "reasoning", "summary": [_plain(part) for part in item.summary or ()]}
    if isinstance(item.content, list):
        kept["content"] = [_plain(part) for part in item.content]
    if item.encrypted_content is not None:
        kept["encrypted_content"] = item.encrypted_content
    return kept


def _plain(part: InputPart) -> Json:
    return {"type": part.type, "text": part.text or ""}


def _text(text: str, *, own: bool) -> Json:
    return {"type": "output_text", "text": text, "annotations": []} if own else {"type": "input_text", "text": text}


def _parts(parts: Sequence[InputPart], where: str, known: Iterable[str], *, own: bool = False) -> list[Json]:
    if not parts:
        raise InvalidRequest(f"{where} is empty", param=where)
    return [_part(part, f"{where}[{at}]", known, own=own) for at, part in enumerate(parts)]


def _part(part: InputPart, where: str, known: Iterable[str], *, own: bool) -> Json:
    if part.type not in known:
        said = f"{where}.type: {part.type[:64]!r} cannot stand here; known: {', '.join(sorted(known))}"
        raise InvalidRequest(said, param=f"{where}.type")
    match part.type:
        case "refusal":
            return {"type": "refusal", "refusal": _there(part.refusal, f"{where}.refusal")}
        case "input_image":
            url = _there(
                part.image_url, f"{where}.image_url", "images are read from a URL, or a data: URL; uploaded files are not known here"
            )
            return {"type": "input_image", "image_url": url, "detail": part.detail or "auto"}
        case "input_file":
            if part.file_data is None and part.file_id is None:
                _there(None, f"{where}.file_data", "files are read from file_data (base64), or the provider's own file_id")
            named = {name: getattr(part, name) for name in ("file_data", "file_id", "filename")}
            return {"type": "input_file", **{name: value for name, value in named.items() if value is not None}}
        case "input_audio":
            return {"type": "input_audio", "input_audio": _there(part.input_audio, f"{where}.input_audio")}
        case _:
            return _text(_there(part.text, f"{where}.text"), own=own)


def _there(value: _T | None, where: str, hint: str = "") -> _T:
    if value is None:
        raise InvalidRequest(f"{where} is missing{hint and f': {hint}'}", param=where)
    return value
