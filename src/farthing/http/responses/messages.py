"""Items as chat messages. Pure.

Neighbouring items of the assistant (a text, its function calls) are one chat message: chat models want the calls of one turn together.
"""

from __future__ import annotations

from collections.abc import Iterable

from farthing.errors import InvalidRequest
from farthing.http.responses.thoughts import unwrapped
from farthing.types import Json


def messages_of(instructions: str | None, items: Iterable[Json]) -> list[Json]:
    """The messages of a chat request. `instructions` come first, as the system's. Raises `InvalidRequest` when there is nothing to say."""
    messages: list[Json] = [] if instructions is None else [{"role": "system", "content": instructions}]
    start = len(messages)
    for item in items:
        match item["type"]:
            case "message" if item["role"] == "assistant":
                _said(messages, item["content"])
            case "message":
                # "developer" is what some vendors call the system's messages; all understand "system".
                role = "user" if item["role"] == "user" else "system"
                messages.append({"role": role, "content": _content(item["content"])})
            case "function_call":
                _called(messages, item)
            case "reasoning":
                _thought(messages, unwrapped(item.get("encrypted_content")))
            case "function_call_output":
                output = item["output"]
                content = output if isinstance(output, str) else _content(output)
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": content})
    messages = [
        message for message in messages if message.keys() != {"role", "content", "thinking_blocks"} or message["content"] is not None
    ]
    if len(messages) == start:
        raise InvalidRequest("input is empty: send a text, or at least one message", param="input")
    return messages


def _said(messages: list[Json], content: list[Json]) -> None:
    last = messages[-1] if messages else None
    if last is None or last["role"] != "assistant" or last["content"] is not None or "refusal" in last:
        last = {"role": "assistant", "content": None}
        messages.append(last)
    texts = [part["text"] for part in content if part["type"] == "output_text"]
    refusals = [part["refusal"] for part in content if part["type"] == "refusal"]
    last["content"] = "".join(texts) if texts or not refusals else None
    if refusals:
        last["refusal"] = "".join(refusals)


def _called(messages: list[Json], item: Json) -> None:
    last = _own(messages)
    call = {"id": item["call_id"], "type": "function", "function": {"name": item["name"], "arguments": item["arguments"]}}
    last.setdefault("tool_calls", []).append(call)


def _thought(messages: list[Json], blocks: list[Json]) -> None:
    """Thoughts that must go back with what was said after them."""
    if blocks:
        _own(messages).setdefault("thinking_blocks", []).extend(blocks)


def _own(messages: list[Json]) -> Json:
    """The assistant's message that is under way, or a new one."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    return messages[-1]


def _content(parts: list[Json]) -> str | list[Json]:
    """One text as it is, which every server understands; anything else as parts."""
    if len(parts) == 1 and "text" in parts[0]:
        text: str = parts[0]["text"]
        return text
    return [_part(part) for part in parts]


def _part(part: Json) -> Json:
    match part["type"]:
        case "input_image":
            return {"type": "image_url", "image_url": {"url": part["image_url"], "detail": part["detail"]}}
        case "input_file":
            return {"type": "file", "file": {name: value for name, value in part.items() if name != "type"}}
        case "input_audio":
            return dict(part)
        case _:
            return {"type": "text", "text": part["text"]}
