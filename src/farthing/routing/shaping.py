"""What a model is sent: the caller's body in the words and within the bounds that hold for this model. Pure.

Three steps, each of which leaves the body alone (the same object) when it has nothing to do: the prompt's variant for the model's
family, what the mode holds back, what the settings say of the model (`models.NAME.parameters`). All of it happens when an attempt is
made, so that a fallback gets what is right for the fallback, and the caches see what the caller sent.
"""

from __future__ import annotations

from typing import Any

from farthing.pipeline.history import orphans, turn_starts, without_before
from farthing.routing.catalogue import Deployment, Model
from farthing.routing.families import wants_newer_limit
from farthing.settings.shaping import LIMITS, LimitSettings, ParameterSettings
from farthing.types import DEEP, Json, Mode, Operation, Prompt, Request

_NEWER, _OLDER = LIMITS
_LEAST_THINKING = 1024
"""Anthropic's least `thinking.budget_tokens`; it must be below the limit of the answer."""


def body_for(request: Request, model: Model, deployment: Deployment) -> Json:
    """What one attempt sends. The request's own body, untouched, where nothing is to be said differently."""
    body = request.body
    if request.operation is Operation.CHAT:
        if request.prompt is not None:
            body = spoken(body, request.prompt, deployment.family)
        if request.mode is not DEEP:
            body = shaped(body, model, request.mode)
    return body if model.parameters is None else mapped(body, model.parameters)


def spoken(body: Json, prompt: Prompt, family: str | None) -> Json:
    """The body with the prompt's text in the words for this family."""
    text = prompt.text(family)
    messages = body.get("messages")
    if text == prompt.system or not isinstance(messages, list) or not messages or messages[0].get("content") != prompt.system:
        return body
    return {**body, "messages": [{**messages[0], "content": text}, *messages[1:]]}


def shaped(body: Json, model: Model, mode: Mode) -> Json:
    """The body within what the mode allows: its history, and how long the answer may be. Twice is as once."""
    if mode.history_turns is not None:
        body = _shorter(body, mode.history_turns)
    if mode.max_tokens is not None and isinstance(body.get("messages"), list):
        body = _capped(body, mode.max_tokens, _limit_name(model))
    return body


def mapped(body: Json, parameters: ParameterSettings) -> Json:
    """The body as the settings want it for this model. The same object when that changes nothing."""
    changed: Json = {name: None for name in parameters.drop if name in body}
    for name, part in (("temperature", parameters.temperature), ("top_p", parameters.top_p)):
        if part is not None and (value := _number(body.get(name))) is not None:
            changed[name] = _held(value * getattr(part, "scale", 1), part.min, part.max)
    if parameters.stop is not None and isinstance(stop := body.get("stop"), list | str):
        changed["stop"] = ([stop] if isinstance(stop, str) else stop)[: parameters.stop.most] or None
    if parameters.n is not None and (asked := _count(body.get("n"))) is not None:
        changed["n"] = min(asked, parameters.n.max)
    changed |= parameters.set
    if any(body.get(name) != value for name, value in changed.items()):
        taken = {name for name, value in changed.items() if value is None}
        body = {name: value for name, value in {**body, **changed}.items() if name not in taken}
    return body if parameters.max_tokens is None else _limited(body, parameters.max_tokens)


def asked_output(body: Json) -> int | None:
    """How many tokens the answer may have at most, by either name, the smaller one where both are given; None where neither is."""
    return min((found for name in LIMITS if (found := _count(body.get(name))) is not None), default=None)


def _limited(body: Json, part: LimitSettings) -> Json:
    asked = asked_output(body)
    limit = part.default if asked is None else asked if part.max is None else min(asked, part.max)
    if limit is None:
        return body
    given = [name for name in LIMITS if body.get(name) is not None]
    name = part.name or (given[0] if given else _OLDER)
    if body.get(name) == limit and not any(key in body for key in LIMITS if key != name):
        return body
    return _with_limit({key: value for key, value in body.items() if key not in LIMITS}, name, limit)


def _capped(body: Json, most: int, name: str) -> Json:
    """At most so many tokens of an answer, by the name that the caller used, or else this one."""
    asked = asked_output(body)
    if asked is not None and asked <= most and all((_count(body[key]) or 0) <= most for key in LIMITS if body.get(key) is not None):
        return body
    given = [key for key in LIMITS if body.get(key) is not None]
    limit = most if asked is None else min(asked, most)
    return _with_limit({key: value for key, value in body.items() if key not in LIMITS}, given[0] if given else name, limit)


def _with_limit(body: Json, name: str, limit: int) -> Json:
    """A budget to think with that would not fit into the limit any more is made to leave room for the answer, or goes."""
    found = {**body, name: limit}
    thinking = body.get("thinking")
    budget = _count(thinking.get("budget_tokens")) if isinstance(thinking, dict) else None
    if budget is not None and budget >= limit:
        if limit // 2 >= _LEAST_THINKING:
            found["thinking"] = {**body["thinking"], "budget_tokens": limit // 2}
        else:
            del found["thinking"]
    return found


def _limit_name(model: Model) -> str:
    part = model.parameters.max_tokens if model.parameters is not None else None
    if part is not None and part.name is not None:
        return part.name
    return _NEWER if any(wants_newer_limit(one.upstream_model) for one in model.deployments) else _OLDER


def _shorter(body: Json, turns: int) -> Json:
    """Instructions, and the last user turns with all that follows each of them. A tool's result is never sent without its call."""
    messages = body.get("messages")
    if not isinstance(messages, list):
        return body
    starts = turn_starts(messages)
    if len(starts) < turns or not starts:
        return body
    cut = next((at for at in reversed(starts[: len(starts) - turns + 1]) if not orphans(messages, at)), 0)
    kept = without_before(messages, cut)
    return body if len(kept) == len(messages) else {**body, "messages": kept}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _held(value: float, low: float, high: float | None) -> float:
    value = max(value, low)
    return value if high is None else min(value, high)
