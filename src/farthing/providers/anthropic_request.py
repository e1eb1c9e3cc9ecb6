"""A chat request as Anthropic's Messages API takes it. Pure.

What Anthropic has under another name is translated. What would change the answer's form without being possible (several choices, log
probabilities, audio) is refused. What only tunes an answer and has no counterpart (penalties, seed, bias, verbosity, …) is left out: the
question is the same without it, and a request must be able to fall back from one vendor to another. All other fields are Anthropic's own
(`thinking`, `top_k`, `container`, …) and are handed on. Source: Anthropic's API reference, "Create a Message".
"""

from __future__ import annotations

import re
from typing import Any

from farthing.errors import InvalidRequest
from farthing.providers.anthropic_history import conversation
from farthing.providers.anthropic_schema import constrained
from farthing.types import Json

_REFUSED = {
    "audio": "Anthropic's models do not speak",
    "functions": "send tools instead",
    "function_call": "send tool_choice instead",
    "logprobs": "Anthropic tells no log probabilities",
    "top_logprobs": "Anthropic tells no log probabilities",
    "web_search_options": "Anthropic's web search is a tool: see its documentation",
}
_LEFT_OUT = frozenset(
    {
        "frequency_penalty", "logit_bias", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty", "prompt_cache_key",
        "prompt_cache_retention", "seed", "store", "stream_options", "verbosity",
    }
)  # fmt: skip
_TRANSLATED = frozenset(
    {
        "max_completion_tokens", "max_tokens", "messages", "metadata", "model", "reasoning_effort", "response_format", "safety_identifier",
        "service_tier", "stop", "stream", "temperature", "tool_choice", "tools", "top_p", "user",
    }
)  # fmt: skip
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_HOTTEST = 1.0
_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24_576, "xhigh": 32_000, "max": 32_000}
_LEAST_BUDGET = 1024
_EFFORTS = {"minimal": "low", **{name: name for name in _BUDGETS if name != "minimal"}}
_ROOM_TO_ANSWER = 1024
_BUDGET_MODELS = re.compile(r"claude-(?:instant|[1-3]|(?:opus|sonnet|haiku)-4(?:$|[@:]|[-.][0-5](?!\d)|-\d{8}))")
"""Models that think by a budget of tokens. Later ones decide for themselves, guided by an effort ("Adaptive thinking")."""
_NO_SAMPLING_MODELS = re.compile(r"claude-(?:opus-4[-.][78]|mythos-preview|(?:fable|haiku|mythos|opus|sonnet)-5)")
"""Models that refuse `temperature` and `top_p` (`supports_sampling_params` in LiteLLM's model data, November 2026)."""
_PERSONAL = re.compile(r"@|^\+?[\d\s()./-]{7,}$")
"""Mail addresses and telephone numbers: Anthropic refuses them as a user's id."""
_LONGEST_USER = 256
_JSON_ONLY = "Answer with one JSON object and nothing else: no code fence, no words before or after it."


def messages_request(body: Json, model: str, *, max_tokens: int) -> Json:
    """The body of POST /v1/messages, without `stream`. `max_tokens` is sent when the caller names no limit.

    Raises `InvalidRequest` for what Anthropic's models cannot do.
    """
    given = {key: value for key, value in body.items() if value is not None}
    _refuse(given)
    found = {key: value for key, value in given.items() if key not in _TRANSLATED and key not in _LEFT_OUT and key not in _REFUSED}
    system, messages = conversation(given["messages"])
    found |= {"model": model, "messages": messages, **_sampling(given, model)}
    if tools := [_tool(tool, at) for at, tool in enumerate(given.get("tools", ()))]:
        found |= {"tools": tools, **_tool_choice(given)}
    if form := _format(given):
        found["output_config"] = {**found.get("output_config", {}), "format": form}
    elif (given.get("response_format") or {}).get("type") == "json_object":
        system = [*system, {"type": "text", "text": _JSON_ONLY}]
    if system:
        found["system"] = system
    if user := _user(given):
        found["metadata"] = {"user_id": user}
    if given.get("service_tier") in _TIERS:
        found["service_tier"] = _TIERS[given["service_tier"]]
    return _with_thinking(found, given, max_tokens)


def _refuse(given: Json) -> None:
    for name in ("thinking", "output_config"):
        if not isinstance(given.get(name, {}), dict):
            raise InvalidRequest(f"{name} must be an object", param=name)
    if given.get("n", 1) != 1:
        raise InvalidRequest("n: Anthropic's models give one answer at a time; ask several times", param="n")
    for name, why in _REFUSED.items():
        if given.get(name):
            raise InvalidRequest(f"{name} is not available with Anthropic's models: {why}", param=name)
    if "audio" in given.get("modalities", ()):
        raise InvalidRequest("modalities: Anthropic's models do not speak; ask for text", param="modalities")


def _sampling(given: Json, model: str) -> Json:
    """Temperature, cut to Anthropic's range, nucleus and stops."""
    found: Json = {}
    if not _NO_SAMPLING_MODELS.search(model):
        found = {name: given[name] for name in ("temperature", "top_p") if name in given}
        if found.get("temperature", 0) > _HOTTEST:
            found["temperature"] = _HOTTEST
    stop = given.get("stop") or ()
    stops = [stop] if isinstance(stop, str) else [one for one in stop if one]
    return {**found, "stop_sequences": stops} if stops else found


def _tool(tool: Json, at: int) -> Json:
    """A function as a tool; other types are Anthropic's own and are handed on."""
    if tool["type"] != "function":
        return tool
    function = tool.get("function")
    if not isinstance(function, dict):
        raise InvalidRequest(f"tools[{at}].function is missing", param=f"tools[{at}].function")
    found = {key: value for key, value in tool.items() if key not in {"type", "function"} and value is not None}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    found |= {"name": function["name"], "input_schema": schema}
    if function.get("description"):
        found["description"] = function["description"]
    if function.get("strict") is True:
        found |= {"strict": True, "input_schema": constrained(schema)}
    if function.get("cache_control"):
        found.setdefault("cache_control", function["cache_control"])
    return found


def _tool_choice(given: Json) -> Json:
    choice = given.get("tool_choice", "auto")
    if isinstance(choice, str):
        if choice not in _CHOICES:
            raise InvalidRequest(
                f"tool_choice: there is no {choice[:64]!r}; known: auto, none, required, or a function", param="tool_choice"
            )
        found: Json = {"type": _CHOICES[choice]}
    elif choice.get("type") == "function" and isinstance(choice.get("function"), dict):
        found = {"type": "tool", "name": choice["function"].get("name")}
    elif choice.get("type") in {"auto", "any", "tool", "none"}:
        found = dict(choice)
    else:
        kind = str(choice.get("type"))[:64]
        raise InvalidRequest(f"tool_choice.type: {kind!r} is not available with Anthropic's models", param="tool_choice")
    if given.get("parallel_tool_calls") is False and found["type"] != "none":
        found["disable_parallel_tool_use"] = True
    return {} if found == {"type": "auto"} else {"tool_choice": found}


def _format(given: Json) -> Json | None:
    """`output_config.format` for a JSON schema. Models before Claude 4.5 refuse it, and say so themselves."""
    wanted = given.get("response_format") or {}
    if wanted.get("type") != "json_schema":
        return None
    schema = (wanted.get("json_schema") or {}).get("schema")
    if not isinstance(schema, dict):
        raise InvalidRequest("response_format.json_schema.schema is missing", param="response_format.json_schema.schema")
    return {"type": "json_schema", "schema": constrained(schema)}


def _user(given: Json) -> str | None:
    """An opaque id of the person behind the request, for Anthropic's abuse detection."""
    metadata = given.get("metadata") or {}
    for user in (metadata.get("user_id"), given.get("safety_identifier"), given.get("user")):
        if isinstance(user, str) and 0 < len(user) <= _LONGEST_USER and not _PERSONAL.search(user):
            return user
    return None


def _with_thinking(found: Json, given: Json, max_tokens: int) -> Json:
    """Thinking out of `reasoning_effort`, unless the caller gave `thinking` itself, and a limit that leaves room for it."""
    limit = given.get("max_completion_tokens", given.get("max_tokens"))
    effort = given.get("reasoning_effort")
    if "thinking" not in found and isinstance(effort, str):
        found |= _thinking(effort, limit, found)
    budget = _budget_of(found.get("thinking"))
    found["max_tokens"] = limit if limit is not None else max(max_tokens, budget + _ROOM_TO_ANSWER if budget else 0)
    return found


def _thinking(effort: str, limit: int | None, found: Json) -> Json:
    """An effort is a wish: where thinking cannot be had, the answer comes without it."""
    adaptive = not _BUDGET_MODELS.search(found["model"])
    if effort == "none":
        return {"thinking": {"type": "disabled"}} if adaptive else {}
    if effort not in _BUDGETS:
        raise InvalidRequest(f"reasoning_effort: there is no {effort[:64]!r}; known: none, {', '.join(_BUDGETS)}", param="reasoning_effort")
    if adaptive:
        config = {"effort": _EFFORTS[effort], **found.get("output_config", {})}
        return {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": config}
    budget = _BUDGETS[effort] if limit is None else min(_BUDGETS[effort], limit // 2)
    forced = found.get("tool_choice", {}).get("type") in {"any", "tool"}
    if budget < _LEAST_BUDGET or forced or _thoughts_were_lost(found["messages"]):
        return {}
    for name in ("temperature", "top_p"):
        found.pop(name, None)
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _thoughts_were_lost(messages: list[Json]) -> bool:
    """Whether the turn under way called a tool and its thinking was not kept: Anthropic wants both or none of them back."""
    for message in reversed(messages):
        kinds = {block.get("type") for block in message["content"]}
        if message["role"] == "assistant":
            return "tool_use" in kinds and not kinds & {"thinking", "redacted_thinking"}
        if "tool_result" not in kinds:
            return False
    return False


def _budget_of(thinking: Any) -> int:
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return budget if isinstance(budget, int) else 0
