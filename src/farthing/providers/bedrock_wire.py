"""A canonical chat request in the words of Amazon Bedrock's Converse API.

Source: AWS, "Amazon Bedrock API Reference", Converse. What Converse has no word for is either left out, where the answer is as good
without it (`LEFT_OUT`), or refused, where the caller would not get what was asked for (`_refuse`). Fields that nobody here knows go to the
model as they are (`additionalModelRequestFields`): `top_k`, `thinking` and their like.
"""

from __future__ import annotations

from typing import Any

import msgspec

from farthing.errors import InvalidRequest
from farthing.providers.bedrock_content import a_list, an_object, cache_point, messages_of
from farthing.types import Json

LEFT_OUT = frozenset(
    {
        "cache_control",
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "metadata",
        "modalities",
        "model",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "top_logprobs",
        "user",
        "verbosity",
    }
)
"""OpenAI's fields that Converse has no counterpart of, and without which the answer is still an answer."""

_TRANSLATED = frozenset(
    {
        "messages",
        "tools",
        "tool_choice",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "stop",
        "response_format",
        "reasoning_effort",
        "output_config",
    }
)
_OWN = frozenset({"guardrailConfig", "requestMetadata", "additionalModelResponseFieldPaths"})
"""Converse's own fields that a caller may send by their names. Those that change the price are not among them."""
_REFUSED = ("audio", "functions", "function_call", "web_search_options")
_OPEN_MODELS = "openai."
"""In the ids of OpenAI's models, which take the effort as a field of their own."""
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}


def converse(model: str, body: Json) -> Json:
    """The body of Converse and ConverseStream. Raises `InvalidRequest` that names the field at fault."""
    asked = {name: value for name, value in body.items() if value is not None}
    _refuse(asked)
    system, messages = messages_of(a_list(asked.get("messages"), "messages"))
    found: Json = {"messages": messages}
    if system:
        found["system"] = system
    if config := _inference_config(asked):
        found["inferenceConfig"] = config
    if tools := _tool_config(asked):
        found["toolConfig"] = tools
    if output := _output_config(model, asked):
        found["outputConfig"] = output
    found |= {name: asked[name] for name in _OWN if name in asked}
    more = {name: value for name, value in asked.items() if name not in LEFT_OUT | _TRANSLATED | _OWN | {"additionalModelRequestFields"}}
    if "reasoning_effort" in asked and _OPEN_MODELS in model:
        more["reasoning_effort"] = asked["reasoning_effort"]
    more |= an_object(asked.get("additionalModelRequestFields", {}), "additionalModelRequestFields")
    if more:
        found["additionalModelRequestFields"] = more
    return found


def _refuse(asked: Json) -> None:
    """Raise for what would make the answer another one than was asked for."""
    if asked.get("n", 1) != 1:
        raise InvalidRequest("Amazon Bedrock gives one answer a call: n must be 1.", param="n")
    if asked.get("logprobs"):
        raise InvalidRequest("Amazon Bedrock gives no log probabilities: leave logprobs out.", param="logprobs")
    if asked.get("modalities", ["text"]) != ["text"]:
        raise InvalidRequest("Farthing asks Amazon Bedrock for text only: modalities must be ['text'].", param="modalities")
    for name in _REFUSED:
        if name in asked:
            raise InvalidRequest(f"Amazon Bedrock's Converse API has nothing like {name}.", param=name)


def _inference_config(asked: Json) -> Json:
    config: Json = {}
    for name, own in (
        ("max_tokens", "maxTokens"),
        ("max_completion_tokens", "maxTokens"),
        ("temperature", "temperature"),
        ("top_p", "topP"),
    ):
        if name in asked:
            config[own] = asked[name]
    stop = asked.get("stop")
    if stop:
        config["stopSequences"] = [stop] if isinstance(stop, str) else a_list(stop, "stop")
    return config


def _output_config(model: str, asked: Json) -> Json:
    """The schema of the answer, and how hard to think."""
    config: Json = {}
    effort = asked.get("reasoning_effort") or an_object(asked.get("output_config", {}), "output_config").get("effort")
    if isinstance(effort, str) and effort in _EFFORTS and _OPEN_MODELS not in model:
        config["effort"] = _EFFORTS[effort]
    form = an_object(asked.get("response_format", {}), "response_format")
    kind = form.get("type", "text")
    if kind == "json_schema":
        wanted = an_object(form.get("json_schema") or {}, "response_format.json_schema")
        schema = msgspec.json.encode(wanted.get("schema") or {}).decode()
        named = {name: wanted[name] for name in ("name", "description") if wanted.get(name)}
        config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": {"schema": schema, **named}}}
    elif kind != "text":
        raise InvalidRequest(
            f"Amazon Bedrock has no response_format of type {str(kind)[:64]!r}: give a schema (json_schema).", param="response_format.type"
        )
    return config


def _tool_config(asked: Json) -> Json | None:
    """Tools and which of them to call. There is no word for calling none: then none is offered."""
    choice = asked.get("tool_choice", "auto")
    tools = a_list(asked.get("tools"), "tools")
    if not tools or choice == "none":
        return None
    config: Json = {"tools": [block for at, tool in enumerate(tools) for block in _tool(tool, f"tools[{at}]")]}
    if choice == "required":
        config["toolChoice"] = {"any": {}}
    elif isinstance(choice, dict):
        name = an_object(choice.get("function") or {}, "tool_choice.function").get("name")
        if not isinstance(name, str):
            raise InvalidRequest("Amazon Bedrock lets the caller choose one function, auto, required or none.", param="tool_choice")
        config["toolChoice"] = {"tool": {"name": name}}
    elif choice == "auto":
        config["toolChoice"] = {"auto": {}}
    else:
        raise InvalidRequest(f"tool_choice is auto, none, required or a function, not {str(choice)[:64]!r}.", param="tool_choice")
    return config


def _tool(tool: Any, where: str) -> list[Json]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        raise InvalidRequest("Amazon Bedrock takes tools of type function.", param=where)
    spec: Json = {"name": function.get("name"), "inputSchema": {"json": function.get("parameters") or {"type": "object", "properties": {}}}}
    if function.get("description"):
        spec["description"] = function["description"]
    if isinstance(function.get("strict"), bool):
        spec["strict"] = function["strict"]
    return [{"toolSpec": spec}, *cache_point(tool, where)]
