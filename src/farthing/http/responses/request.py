"""From the body of /v1/responses to a chat request. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from farthing.errors import InvalidRequest
from farthing.http.responses.body import ResponsesBody, ResponseTool, TextFormat
from farthing.types import Json

_LOGPROBS = "message.output_text.logprobs"
_SAME = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "service_tier",
)
"""Fields that chat requests have under the same name and with the same meaning."""

_MOVED: Mapping[str, str] = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "text.verbosity",
    "logprobs": f"include: [{_LOGPROBS!r}]",
    "functions": "tools",
    "function_call": "tool_choice",
}
"""Fields of chat requests that have another name here. Handed on as unknown ones they would contradict what we say."""

_NOT_HERE: Mapping[str, str] = {
    "conversation": "conversations are kept by previous_response_id only",
    "prompt": "there are no stored prompts of OpenAI's here",
    "background": "a response is answered while you wait, or streamed",
    "context_management": "a conversation is given to the model whole",
    "moderation": "there is no moderation here",
    "n": "there is one answer to a request",
}


def check(typed: ResponsesBody, raw: Json) -> None:
    """Refuse what cannot be done, rather than to do something else. Raises `InvalidRequest`."""
    for name, why in _NOT_HERE.items():
        if raw.get(name):
            raise InvalidRequest(f"{name} is not available: {why}", param=name)
    for name, there in _MOVED.items():
        if raw.get(name) is not None:
            raise InvalidRequest(f"{name} is a field of chat completions; here it is {there}", param=name)
    if typed.input is None and typed.previous_response_id is None:
        raise InvalidRequest("input is missing", param="input")
    if typed.truncation not in {None, "auto", "disabled"}:
        raise InvalidRequest("truncation must be 'auto' or 'disabled'", param="truncation")


def chat_body(typed: ResponsesBody, raw: Json, messages: Sequence[Json]) -> Json:
    """The chat request. Fields that nobody knows are handed on as they came."""
    body: Json = {name: value for name, value in raw.items() if name not in ResponsesBody.__struct_fields__ and name not in _NOT_HERE}
    body |= {"model": typed.model, "messages": list(messages)}
    body |= {name: raw[name] for name in _SAME if raw.get(name) is not None}
    options: Json = {
        "max_tokens": typed.max_output_tokens,  # the name that all servers know; `types.Request.foreign` sees to those that want the newer
        "response_format": _format(typed.text.format) if typed.text and typed.text.format else None,
        "verbosity": typed.text.verbosity if typed.text else None,
        "reasoning_effort": typed.reasoning.effort if typed.reasoning else None,
        **_tools(typed),
        **_logprobs(typed),
    }
    return body | {name: value for name, value in options.items() if value is not None}


def _format(given: TextFormat) -> Json | None:
    match given.type:
        case "text":
            return None
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            if not given.name:
                raise InvalidRequest("text.format.name is missing", param="text.format.name")
            fields = {"name": given.name, "description": given.description, "schema": given.schema, "strict": given.strict}
            return {"type": "json_schema", "json_schema": {name: value for name, value in fields.items() if value is not None}}
        case _:
            raise InvalidRequest("text.format.type must be 'text', 'json_object' or 'json_schema'", param="text.format.type")


def _tools(typed: ResponsesBody) -> Json:
    """Chat servers refuse a choice among no tools, where OpenAI's responses do not mind."""
    tools = [_tool(tool, f"tools[{at}]") for at, tool in enumerate(typed.tools or ())]
    choice = _choice(typed.tool_choice)
    if tools:
        return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": typed.parallel_tool_calls}
    if choice not in (None, "none", "auto"):
        raise InvalidRequest("tool_choice asks for a tool, but there are no tools", param="tool_choice")
    return {}


def _tool(tool: ResponseTool, where: str) -> Json:
    if tool.type != "function":
        said = f"{where}.type: tools of type {tool.type[:64]!r} run at OpenAI and cannot be given to a chat model; known: function"
        raise InvalidRequest(said, param=f"{where}.type")
    if not tool.name:
        raise InvalidRequest(f"{where}.name is missing", param=f"{where}.name")
    fields = {"name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": tool.strict}
    return {"type": "function", "function": {name: value for name, value in fields.items() if value is not None}}


def _choice(given: str | Json | None) -> Any:
    match given:
        case None | "none" | "auto" | "required":
            return given
        case {"type": "function", "name": str(name)}:
            return {"type": "function", "function": {"name": name}}
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": [*tools]}:
            allowed = [{"type": "function", "function": {"name": _allowed(tool)}} for tool in tools]
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}
        case _:
            known = "'none', 'auto', 'required', {type: function, name} or {type: allowed_tools, mode, tools}"
            raise InvalidRequest(f"tool_choice must be {known}", param="tool_choice")


def _allowed(tool: object) -> str:
    match tool:
        case {"type": "function", "name": str(name)}:
            return name
        case _:
            raise InvalidRequest("tool_choice.tools must hold {type: function, name} each", param="tool_choice")


def _logprobs(typed: ResponsesBody) -> Json:
    if typed.top_logprobs is None and _LOGPROBS not in (typed.include or ()):
        return {}
    return {"logprobs": True, "top_logprobs": typed.top_logprobs}
