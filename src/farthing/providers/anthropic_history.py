"""A chat's messages as Anthropic's: a system prompt apart, turns that alternate, blocks instead of fields. Pure.

`thinking_blocks` of an assistant's message go back as they came, before its text: Anthropic checks their signatures. `cache_control` on
a part, a message or a tool call marks its block. Parts that OpenAI does not know are taken for Anthropic's own blocks and handed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import Json

_DATA_URL = re.compile(r"data:(?P<media>[\w.+-]+/[\w.+-]+)(?:;[\w=.-]+)*;base64,(?P<data>.*)", re.DOTALL)
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_SYSTEM = frozenset({"system", "developer"})


def conversation(messages: list[Json]) -> tuple[list[Json], list[Json]]:
    """(system blocks, messages). Neighbours of the same role are one message; messages without content are left out.

    Raises `InvalidRequest` naming the place.
    """
    system: list[Json] = []
    turns: list[Json] = []
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        role = message["role"]
        if role in _SYSTEM:
            system += _marked(list(_parts(message.get("content"), where)), message)
            continue
        blocks = _marked(list(_blocks(message, where)), message)
        turn = "assistant" if role == "assistant" else "user"
        if blocks and turns and turns[-1]["role"] == turn:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": turn, "content": blocks})
    return system, turns


def _blocks(message: Json, where: str) -> Iterator[Json]:
    match message["role"]:
        case "user":
            yield from _parts(message.get("content"), where)
        case "assistant":
            yield from _thoughts(message, where)
            yield from _parts(message.get("content"), where)
            for at, call in enumerate(message.get("tool_calls") or ()):
                yield _tool_use(call, f"{where}.tool_calls[{at}]")
        case "tool":
            yield _tool_result(message, where)
        case other:
            known = "system, developer, user, assistant, tool"
            raise InvalidRequest(f"{where}.role: Anthropic's models know no {str(other)[:64]!r}, only {known}", param=f"{where}.role")


def _thoughts(message: Json, where: str) -> list[Json]:
    """As they came: Anthropic's signatures cover them. No door has looked at them before."""
    thoughts = message.get("thinking_blocks") or []
    if not isinstance(thoughts, list) or not all(isinstance(block, dict) for block in thoughts):
        place = f"{where}.thinking_blocks"
        raise InvalidRequest(f"{place} must be the list of blocks that the answer had", param=place)
    return thoughts


def _marked(blocks: list[Json], message: Json) -> list[Json]:
    """Blocks of which the last has the message's own mark for the prompt cache."""
    mark = message.get("cache_control")
    if mark and blocks and "cache_control" not in blocks[-1]:
        blocks[-1] = {**blocks[-1], "cache_control": mark}
    return blocks


def _parts(content: Any, where: str) -> Iterator[Json]:
    """The blocks of a content. Anthropic refuses empty texts, which say nothing: they are left out."""
    if isinstance(content, str):
        if content:
            yield {"type": "text", "text": content}
        return
    for at, part in enumerate(content or ()):
        block = _part(part, f"{where}.content[{at}]")
        if block is not None:
            yield {**block, "cache_control": part["cache_control"]} if part.get("cache_control") else block


def _part(part: Json, where: str) -> Json | None:
    match part["type"]:
        case "text" | "refusal" as kind:
            text = part.get(kind)
            return {"type": "text", "text": text} if text else None
        case "image_url":
            return {"type": "image", "source": _source((part.get("image_url") or {}).get("url"), where, "image_url.url")}
        case "file":
            return _document(part.get("file") or {}, where)
        case "input_audio":
            raise InvalidRequest(f"{where}: Anthropic's models do not hear; send text, images or documents", param=where)
        case _:
            return part


def _document(file: Json, where: str) -> Json:
    if file.get("file_id"):
        source: Json = {"type": "file", "file_id": file["file_id"]}
    else:
        source = _source(file.get("file_data"), where, "file.file_data")
    return {"type": "document", "source": source, **({"title": file["filename"]} if file.get("filename") else {})}


def _source(url: Any, where: str, name: str) -> Json:
    if isinstance(url, str) and (found := _DATA_URL.fullmatch(url)):
        return {"type": "base64", "media_type": found["media"], "data": found["data"]}
    if isinstance(url, str) and url.startswith(("https://", "http://")):
        return {"type": "url", "url": url}
    place = f"{where}.{name}"
    raise InvalidRequest(f"{place} must be an https URL or data:MEDIA/TYPE;base64,…", param=place)


def _tool_use(call: Json, where: str) -> Json:
    function = call.get("function")
    if not isinstance(function, dict):
        raise InvalidRequest(f"{where}: only calls of functions can be told to Anthropic's models", param=where)
    try:
        arguments = msgspec.json.decode(function.get("arguments") or "{}")
    except msgspec.DecodeError as error:
        raise _not_an_object(where, f"not JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise _not_an_object(where, "JSON, but no object")
    block = {"type": "tool_use", "id": tool_id(call["id"]), "name": function["name"], "input": arguments}
    return {**block, "cache_control": call["cache_control"]} if call.get("cache_control") else block


def _not_an_object(where: str, what: str) -> InvalidRequest:
    place = f"{where}.function.arguments"
    return InvalidRequest(f"{place} is {what}; Anthropic's models take only JSON objects there", param=place)


def _tool_result(message: Json, where: str) -> Json:
    if not message.get("tool_call_id"):
        raise InvalidRequest(f"{where}.tool_call_id is missing", param=f"{where}.tool_call_id")
    blocks = list(_parts(message.get("content"), where))
    block: Json = {"type": "tool_result", "tool_use_id": tool_id(message["tool_call_id"])}
    if blocks:
        block["content"] = blocks
    if message.get("is_error") is True:
        block["is_error"] = True
    return block


def tool_id(given: str) -> str:
    """A call's id with only characters that Anthropic takes; other vendors' may have more."""
    return _NOT_IN_ID.sub("_", given)
