"""Messages of a canonical chat request as Amazon Bedrock's Converse API has them: what was said, shown, called and thought.

Source: AWS, "Amazon Bedrock API Reference", ContentBlock. Thinking goes back as it came (`thinking_blocks`), with its signature.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import Json

_DATA_URL = re.compile(r"data:([a-zA-Z0-9.+/-]+)(?:;[^,;]*)*;base64,(.*)", re.DOTALL)
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9 ()\[\]-]+")


def messages_of(messages: list[Any]) -> tuple[list[Json], list[Json]]:
    """(system blocks, messages). Converse wants user and assistant in turn, so messages of one role in a row become one."""
    system: list[Json] = []
    found: list[Json] = []
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        role = str(an_object(message, where).get("role"))
        if role in {"system", "developer"}:
            system += [*_content(message.get("content"), where), *cache_point(message, where)]
            continue
        if role == "assistant":
            blocks = _assistant(message, where)
        elif role == "tool":
            blocks = [_tool_result(message, where)]
        elif role == "user":
            role, blocks = "user", _content(message.get("content"), where)
        else:
            raise InvalidRequest(f"there is no role {role[:64]!r} in Amazon Bedrock's Converse API", param=f"{where}.role")
        blocks += cache_point(message, where)
        side = "assistant" if role == "assistant" else "user"
        if found and found[-1]["role"] == side:
            found[-1]["content"] += blocks
        elif blocks:
            found.append({"role": side, "content": blocks})
    if not found:
        raise InvalidRequest("there is nothing to answer: no message has content", param="messages")
    return system, found


def _assistant(message: Json, where: str) -> list[Json]:
    blocks = [_thinking(block, f"{where}.thinking_blocks") for block in a_list(message.get("thinking_blocks"), f"{where}.thinking_blocks")]
    blocks += _content(message.get("content") or message.get("refusal"), where)
    for at, call in enumerate(a_list(message.get("tool_calls"), f"{where}.tool_calls")):
        inside = f"{where}.tool_calls[{at}]"
        function = an_object(an_object(call, inside).get("function") or {}, inside)
        use = {"toolUseId": call.get("id"), "name": function.get("name"), "input": _arguments(function.get("arguments"), inside)}
        blocks.append({"toolUse": use})
    return blocks


def _thinking(block: Any, where: str) -> Json:
    kind = an_object(block, where).get("type")
    if kind == "redacted_thinking":
        return {"reasoningContent": {"redactedContent": block.get("data")}}
    signature = {"signature": block["signature"]} if block.get("signature") else {}
    return {"reasoningContent": {"reasoningText": {"text": block.get("thinking") or "", **signature}}}


def _arguments(text: Any, where: str) -> Json:
    try:
        return an_object(msgspec.json.decode(text or "{}"), where)
    except (msgspec.DecodeError, TypeError, RecursionError):
        raise InvalidRequest("the arguments of a tool call must be a JSON object", param=f"{where}.function.arguments") from None


def _tool_result(message: Json, where: str) -> Json:
    result: Json = {"toolUseId": message.get("tool_call_id"), "content": _content(message.get("content"), where)}
    if message.get("is_error"):
        result["status"] = "error"
    return {"toolResult": result}


def _content(content: Any, where: str) -> list[Json]:
    """The blocks of a message's content. Empty texts are left out: Converse refuses them."""
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"text": content}]
    if not isinstance(content, list):
        raise InvalidRequest("content is a text or a list of parts", param=f"{where}.content")
    blocks: list[Json] = []
    for at, part in enumerate(content):
        inside = f"{where}.content[{at}]"
        blocks += [*_part(an_object(part, inside), inside), *cache_point(part, inside)]
    return blocks


def _part(part: Json, where: str) -> list[Json]:
    kind = str(part.get("type"))
    if kind in {"text", "refusal"}:
        text = part.get(kind)
        return [{"text": text}] if text else []
    if kind == "image_url":
        given = part.get("image_url")
        media, data = _data(given.get("url") if isinstance(given, dict) else given, f"{where}.image_url.url")
        return [{"image": {"format": _format(media, _IMAGES, where), "source": {"bytes": data}}}]
    if kind == "file":
        file = an_object(part.get("file") or {}, f"{where}.file")
        media, data = _data(file.get("file_data"), f"{where}.file.file_data")
        name = _NOT_IN_A_NAME.sub("-", str(file.get("filename") or "document")).strip("-")[:200] or "document"
        return [{"document": {"format": _format(media, _DOCUMENTS, where), "name": name, "source": {"bytes": data}}}]
    raise InvalidRequest(f"Farthing cannot send a part of type {kind[:64]!r} to Amazon Bedrock", param=f"{where}.type")


def _data(url: Any, where: str) -> tuple[str, str]:
    """Media type and base64 of a data URL."""
    match = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if match is None:
        raise InvalidRequest("Amazon Bedrock takes images and files inside the request only: give a data: URL in base64", param=where)
    return match[1].lower(), match[2]


def _format(media: str, known: dict[str, str], where: str) -> str:
    if media not in known:
        raise InvalidRequest(f"Amazon Bedrock does not take {media[:64]!r}; it takes {', '.join(known)}", param=where)
    return known[media]


def cache_point(holder: Json, where: str) -> list[Json]:
    """Anthropic's `cache_control` on a part, a message or a tool: what comes before is worth keeping."""
    wish = holder.get("cache_control")
    if not wish:
        return []
    ttl = an_object(wish, f"{where}.cache_control").get("ttl")
    return [{"cachePoint": {"type": "default", **({"ttl": ttl} if ttl else {})}}]


def a_list(value: Any, where: str) -> list[Any]:
    """The value, if it is a list; an empty one for nothing. Raises `InvalidRequest`."""
    if value is not None and not isinstance(value, list):
        raise InvalidRequest(f"{where} must be a list", param=where)
    return value or []


def an_object(value: Any, where: str) -> Json:
    """The value, if it is an object. Raises `InvalidRequest`."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    return value
