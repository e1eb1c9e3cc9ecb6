"""`farthing route explain`: of a running installation."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from farthing.cli.client import call
from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.types import dollars

_Many = Annotated[list[str] | None, typer.Option("--tag", help="A tag of the request (farthing.tags); may be given several times.")]


def explain(
    prompt: Annotated[str, typer.Argument(help="What is asked.")],
    model: Annotated[str | None, typer.Option(help="The router or model asked for: the first router unless given.")] = None,
    task_type: Annotated[str | None, typer.Option(help="The request's task type.")] = None,
    tier: Annotated[str, typer.Option(help="The tier of the key.")] = "free",
    tenant: Annotated[str, typer.Option(help="Whose request it would be.")] = "default",
    user: Annotated[str | None, typer.Option(help="The tenant's user who asks.")] = None,
    namespace: Annotated[str | None, typer.Option(help="The namespace.")] = None,
    tag: _Many = None,
    system: Annotated[str | None, typer.Option(help="A system prompt before it.")] = None,
    quality: Annotated[float | None, typer.Option(help="The quality asked for, above 0, at most 1.")] = None,
    at: Annotated[str | None, typer.Option(help="As if it were then: 2026-11-28T22:00:00Z.")] = None,
    mode: Annotated[str | None, typer.Option(help="As if in this mode.")] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask the router's judge, too: that costs what it costs.")] = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Say which model a request would go to, and why. No model is called, but for the judge with --ask."""
    found_settings = read_settings(settings, data)
    first = next(iter(found_settings.routing.routers), None) or next(iter(found_settings.models), "local")
    messages = [{"role": "system", "content": system}] if system is not None else []
    extras = {
        "task_type": task_type,
        "namespace": namespace,
        "tags": tag,
        "route": {"quality": quality} if quality is not None else None,
    }
    request = {
        "model": model or first,
        "messages": [*messages, {"role": "user", "content": prompt}],
        "farthing": {name: value for name, value in extras.items() if value is not None},
    }
    body = {"tenant": tenant, "user": user, "tier": tier, "request": request, "at": at, "mode": mode, "ask": ask}
    named = {name: value for name, value in body.items() if value is not None}
    found = call(found_settings.data, "POST", "/admin/v1/route/explain", named)
    print(json.dumps(found) if as_json else "\n".join(_explained(found)))


def _explained(found: dict[str, Any]) -> list[str]:
    about = f"{found['tokens']} tokens, {found['turns']} turns, language {found['language'] or 'unknown'}, mode {found['mode']}"
    lines = [f"{found['model']}: {about}"]
    lines += [_rule(rule) for rule in found["rules"]]
    lines += _judged(found["judge"]) if found["judge"] else []
    if found["models"] is not None:
        lines.append(f"  {found['route']}: {_models(found['models'])} ({found['reason']})")
    if found["checks"]:
        lines.append(f"  checks: {', '.join(found['checks'])}")
    return lines + [_candidate(one) for one in found["candidates"]]


def _rule(rule: dict[str, Any]) -> str:
    if rule["holds"]:
        return f"  rule {rule['rule']} holds: {rule['use']}"
    failed = rule["failed"]
    return f"  rule {rule['rule']} does not hold: {failed['condition']} is {failed['found']!r}, wanted: {failed['wanted']}"


def _judged(judge: dict[str, Any]) -> list[str]:
    question = judge["question"]
    if question is None:
        return [f"  the judge {judge['model']} is not asked: the last user message has no text"]
    says = [f"    if it says {name}: {_models(models)}" for name, models in judge.get("classes", {}).items()]
    return [f"  the judge {judge['model']} is sent {question['messages'][-1]['content']!r}", *says]


def _models(models: list[str] | str) -> str:
    return models if isinstance(models, str) else ", then ".join(models)


def _candidate(one: dict[str, Any]) -> str:
    cost = one["estimated_microusd"]
    price = "price unknown" if cost is None else f"about ${dollars(cost)}"
    return f"  {one['model']}: {price}{'' if one['fits'] else ', too long for it'}{'' if one['allowed'] else ', left out by the request'}"
