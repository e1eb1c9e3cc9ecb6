"""From Anthropic's Messages to the canonical chat request (OpenAI's). Pure.

What OpenAI's format cannot say but providers of Claude understand travels along as extra fields: `cache_control` on parts and tools,
`thinking_blocks` and `is_error` on messages, `thinking`, `top_k` and the rest of `output_config` at the top. The provider for plain
OpenAI-compatible servers takes them out (`Request.foreign`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import Json

_encode = msgspec.json.Encoder().encode
_TRANSLATED = frozenset(
    {"messages", "system", "stop_sequences", "tools", "tool_choice", "metadata", "output_config", "stream", "service_tier"}
)
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_TIERS = {"auto": "auto", "standard_only": "default"}
_RUN_BY_CALLER = ("bash_2", "computer_2", "memory_2", "text_editor_2")
"""How the dated types of tools begin that Anthropic has defined and the caller runs. They are handed on: its models know them."""
_TOOL_FIELDS = frozenset({"name", "type", "description", "input_schema", "strict"})


def chat_body(body: Json) -> Json:
    """The chat request of a Messages body whose types were checked (`messages_types`). Fields that are not known are handed on.

    Raises `InvalidRequest` naming the place for what has no counterpart: blocks and tools that Anthropic's servers run themselves.
    """
    given = {key: value for key, value in body.items() if value is not None}
    chat: Json = {key: value for key, value in given.items() if key not in _TRANSLATED}
    chat["messages"] = [*_system(given.get("system"), "system"), *_messages(given["messages"])]
    if given.get("stop_sequences"):
        chat["stop"] = given["stop_sequences"]
    if given.get("tools"):
        chat["tools"] = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(given["tools"])]
    if "tool_choice" in given:
        chat |= _tool_choice(given["tool_choice"])
    user = given.get("metadata", {}).get("user_id")
    if user is not None:
        chat["user"] = user
    if given.get("service_tier") in _TIERS:
        chat["service_tier"] = _TIERS[given["service_tier"]]
    return chat | _output(given.get("output_config", {}))


def _messages(messages: list[Json]) -> Iterator[Json]:
    if not messages:
        raise InvalidRequest("messages is empty: send at least one message", param="messages")
    for at, message in enumerate(messages):
        where = f"messages[{at}].content"
        role, content = message["role"], message["content"]
        if content == []:
            raise InvalidRequest(f"{where} is empty: send at least one block", param=where)
        if role == "system":
            yield from _system(content, where)
        elif isinstance(content, str):
            yield {"role": role, "content": content}
        elif role == "assistant":
            yield _assistant(content, where)
        else:
            yield from _user(content, where)


def _system(content: str | list[Json] | None, where: str) -> Iterator[Json]:
    if isinstance(content, str):
        yield {"role": "system", "content": content}
    elif content:
        yield {"role": "system", "content": _parts(content, where, only_text=True)}


def _user(content: list[Json], where: str) -> Iterator[Json]:
    """Tool results become messages of their own, right behind the assistant's calls; what else the user says follows them."""
    said = []
    for at, block in enumerate(content):
        if block["type"] == "tool_result":
            yield _tool_result(block, f"{where}[{at}]")
        else:
            said += _part(block, f"{where}[{at}]")
    if said:
        yield {"role": "user", "content": _plain(said)}


def _tool_result(block: Json, where: str) -> Json:
    content = _parts(block.get("content") or "", f"{where}.content")
    message: Json = {"role": "tool", "tool_call_id": _need(block, "tool_use_id", where), "content": content}
    if block.get("is_error"):
        message["is_error"] = True
    return message | _cache_control(block)


def _assistant(content: list[Json], where: str) -> Json:
    """Text is one run of text, unless a piece of it is marked for the prompt cache."""
    texts: list[Json] = []
    calls: list[Json] = []
    thoughts: list[Json] = []
    for at, block in enumerate(content):
        here = f"{where}[{at}]"
        match block["type"]:
            case "text":
                texts += _part(block, here)
            case "tool_use":
                calls.append(_tool_call(block, here))
            case "thinking" | "redacted_thinking":
                thoughts.append(block)
            case other:
                raise _no_counterpart(other, here)
    marked = any("cache_control" in text for text in texts)
    message: Json = {"role": "assistant", "content": texts if marked else "".join(text["text"] for text in texts) if texts else None}
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message["thinking_blocks"] = thoughts
    return message


def _tool_call(block: Json, where: str) -> Json:
    arguments = _encode(_need(block, "input", where)).decode()
    function = {"name": _need(block, "name", where), "arguments": arguments}
    return {"id": _need(block, "id", where), "type": "function", "function": function} | _cache_control(block)


def _parts(content: Any, where: str, *, only_text: bool = False) -> str | list[Json]:
    """Blocks as the content of one message."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a string or a list of blocks", param=where)
    found: list[Json] = []
    for at, block in enumerate(content):
        here = f"{where}[{at}]"
        if only_text and isinstance(block, dict) and block.get("type") != "text":
            raise InvalidRequest(f"{here}: only text can stand here, not {str(block.get('type'))[:64]!r}", param=here)
        found += _part(block, here)
    return _plain(found)


def _plain(parts: list[Json]) -> str | list[Json]:
    """One text with nothing else to say about it is a string: every server takes that, and it is the same question to the cache."""
    return parts[0]["text"] if len(parts) == 1 and parts[0].keys() == {"type", "text"} else parts


def _part(block: Any, where: str) -> list[Json]:
    """One block as content parts."""
    if not isinstance(block, dict):
        raise InvalidRequest(f"{where} must be an object", param=where)
    match block.get("type"):
        case "text":
            return [{"type": "text", "text": _text(block, "text", where)} | _cache_control(block)]
        case "image":
            return [{"type": "image_url", "image_url": {"url": _url(block, where)}} | _cache_control(block)]
        case "document":
            return _document(block, where)
        case "search_result":
            found = _parts(block.get("content") or "", f"{where}.content", only_text=True)
            texts = [found] if isinstance(found, str) else [part["text"] for part in found]
            head = f"{_text(block, 'title', where)}\n{_text(block, 'source', where)}"
            return [{"type": "text", "text": "\n\n".join([head, *texts])} | _cache_control(block)]
        case other:
            raise _no_counterpart(other, where)


def _document(block: Json, where: str) -> list[Json]:
    source = _source(block, where)
    match source.get("type"):
        case "text":
            heads = [head for head in (block.get("title"), block.get("context")) if isinstance(head, str) and head]
            text = "\n\n".join([*heads, _text(source, "data", f"{where}.source")])
            return [{"type": "text", "text": text} | _cache_control(block)]
        case "base64":
            name = block.get("title") or "document.pdf"
            return [{"type": "file", "file": {"filename": name, "file_data": _data_url(source, where)}} | _cache_control(block)]
        case "content":
            inside = _parts(_need(source, "content", f"{where}.source"), f"{where}.source.content")
            return [{"type": "text", "text": inside} | _cache_control(block)] if isinstance(inside, str) else inside
        case other:
            raise InvalidRequest(
                f"{where}.source.type: {str(other)[:64]!r} is not available here; send the document as text or base64", param=where
            )


def _url(block: Json, where: str) -> str:
    source = _source(block, where)
    match source.get("type"):
        case "base64":
            return _data_url(source, where)
        case "url":
            return _text(source, "url", f"{where}.source")
        case other:
            raise InvalidRequest(
                f"{where}.source.type: {str(other)[:64]!r} is not available here; send the image as base64 or url", param=where
            )


def _data_url(source: Json, where: str) -> str:
    return f"data:{_text(source, 'media_type', f'{where}.source')};base64,{_text(source, 'data', f'{where}.source')}"


def _source(block: Json, where: str) -> Json:
    source = _need(block, "source", where)
    if not isinstance(source, dict):
        raise InvalidRequest(f"{where}.source must be an object", param=f"{where}.source")
    return source


def _tool(tool: Json, where: str) -> Json:
    kind = tool.get("type") or "custom"
    if kind.startswith(_RUN_BY_CALLER):
        return tool
    if kind != "custom":
        raise InvalidRequest(
            f"{where}.type: {kind[:64]!r} is not available here; only tools that you run yourself are, such as 'custom'", param=where
        )
    function: Json = {"name": tool["name"], "parameters": _need(tool, "input_schema", where)}
    function |= {key: tool[key] for key in ("description", "strict") if tool.get(key) is not None}
    return {"type": "function", "function": function} | {
        key: value for key, value in tool.items() if key not in _TOOL_FIELDS and value is not None
    }


def _tool_choice(choice: Json) -> Json:
    named = {"type": "function", "function": {"name": _need(choice, "name", "tool_choice")}} if choice["type"] == "tool" else None
    found: Json = {"tool_choice": named or _CHOICES[choice["type"]]}
    if choice.get("disable_parallel_tool_use"):
        found["parallel_tool_calls"] = False
    return found


def _output(config: Json) -> Json:
    """`response_format` out of a JSON schema; what else the configuration says stays as it is."""
    found: Json = {}
    wanted = config.get("format")
    if wanted:
        schema = {"name": "answer", "schema": wanted["schema"], "strict": _closed(wanted["schema"])}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    rest = {key: value for key, value in config.items() if key != "format" and value is not None}
    return {**found, "output_config": rest} if rest else found


def _closed(schema: Any) -> bool:
    """Whether OpenAI's strict mode takes a schema: every object names all its properties as required and allows no others."""
    if isinstance(schema, list):
        return all(_closed(item) for item in schema)
    if not isinstance(schema, dict):
        return True
    if isinstance(schema.get("properties"), dict):
        required = schema.get("required")
        names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        if schema.get("additionalProperties") is not False or names != schema["properties"].keys():
            return False
    return all(_closed(value) for value in schema.values())


def _cache_control(block: Json) -> Json:
    mark = block.get("cache_control")
    return {"cache_control": mark} if mark else {}


def _need(block: Json, name: str, where: str) -> Any:
    value = block.get(name)
    if value is None:
        raise InvalidRequest(f"{where}.{name} is missing", param=f"{where}.{name}")
    return value


def _text(block: Json, name: str, where: str) -> str:
    value = _need(block, name, where)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{name} must be a string", param=f"{where}.{name}")
    return value


def _no_counterpart(kind: Any, where: str) -> InvalidRequest:
    known = "text, image, document, search_result, tool_use, tool_result, thinking"
    return InvalidRequest(f"{where}.type: {str(kind)[:64]!r} is not available here; known: {known}", param=where)
