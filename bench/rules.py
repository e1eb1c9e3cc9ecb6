"""How long a router's rules take to decide, beside what decoding the same body takes. In process, one core, without HTTP.

    python bench/rules.py [--rules 10] [--rounds 300]

Prints one JSON line. `decide` goes the whole way of the route stage for a router with that many rules, none of which holds, so that each
is looked at: with conditions on fields only, and with those that read the text too (tokens, language, time of day). `over_decode` is its
median over that of `msgspec.json.decode` of the same body in the same round; `direct_us` is the stage for a request that names a model.
Bodies: a short question, a conversation of 40 messages, and a document of 400 kB.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from farthing.app_checks import Checks
from farthing.app_routing import router_names, routers_of
from farthing.providers.openai_compatible import OpenAICompatible
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model
from farthing.routing.estimates import Estimates
from farthing.routing.router import RouteStage
from farthing.settings import OpenAICompatibleSettings, Settings
from farthing.spend.prices import cost
from farthing.types import Answer, Extras, Lifeline, Operation, Price, Principal, Request, new_id, utc_now

WORDS = "Explain how the theory of relativity changes what we think of time and of space, and give an example for each of them. "
BODIES = {
    "question": [{"role": "user", "content": WORDS}],
    "conversation": [{"role": role, "content": WORDS * 3} for _ in range(20) for role in ("user", "assistant")],
    "document": [{"role": "system", "content": "Summarise."}, {"role": "user", "content": WORDS * 3300}],
}
FIELDS: list[dict[str, Any]] = [
    {"tier": "pro"},
    {"tenant": ["acme", "other"]},
    {"tags": ["batch"]},
    {"task_type": ["classify", "extract"]},
    {"tools": True},
]
TEXT: list[dict[str, Any]] = [
    {"tokens": {"min": 10_000_000}},
    {"language": ["fi", "cs"]},
    {"time": {"from": "00:00", "to": "00:01", "timezone": "Asia/Tokyo"}},
    {"turns": {"min": 1000}},
    {"images": True},
]


def stage(conditions: list[dict[str, Any]], rules: int) -> RouteStage:
    """A route stage with so many rules, none of which holds. Each has a tag of its own, so that none hides another."""
    made = [{"name": f"r{at}", "when": {**conditions[at % len(conditions)], "user": f"u{at}"}, "use": "weak"} for at in range(rules)]
    if conditions is TEXT:  # what costs time is looked at only where the rest holds: here it does
        made = [{**rule, "when": {**conditions[at % len(conditions)], "namespace": "default"}} for at, rule in enumerate(made)]
        made = made[: len(conditions)] + [{**rule, "when": {"user": f"u{at}"}} for at, rule in enumerate(made[len(conditions) :])]
    models = {name: {"provider": "up", "upstream_model": name} for name in ("weak", "strong")}
    provider = OpenAICompatibleSettings(kind="openai_compatible", base_url="http://127.0.0.1:9/v1")
    routing = {"routers": {"auto": {"models": ["weak", "strong"], "rules": made}}}
    settings = Settings.model_validate({"local": {"enabled": False}, "providers": {"up": provider}, "models": models, "routing": routing})
    catalogue = Catalogue([_model(name, provider) for name in models], random.Random(1), router_names(settings))  # noqa: S311 - it draws nothing here

    async def ask(_question: Request, _timeout_s: float) -> Answer | None:
        raise AssertionError("no judge")

    routers = routers_of(settings, catalogue, ask, Checks(ask))
    return RouteStage(routers, catalogue, Estimates(catalogue, cost, 1000), None, utc_now)


def _model(name: str, settings: OpenAICompatibleSettings) -> Model:
    deployment = Deployment(
        model=name,
        provider=OpenAICompatible("up", settings),
        upstream_model=name,
        weight=1,
        price=Price(input=1, output=1, source="settings"),
        retries=0,
        cooldown=Cooldown(1, 1, time.monotonic),
    )
    return Model(name=name, operation=Operation.CHAT, deployments=(deployment,))


def asking(body: dict[str, Any]) -> Request:
    return Request(
        id=new_id(),
        principal=Principal(key_id=UUID(int=1), tenant="bench"),
        operation=Operation.CHAT,
        body=body,
        model="auto",
        extras=Extras(),
        started_ns=time.perf_counter_ns(),
        lifeline=Lifeline(None),
    )


async def measured(rules: int, rounds: int) -> dict[str, Any]:
    stages = {"fields": stage(FIELDS, rules), "text": stage(TEXT, rules)}
    found: dict[str, Any] = {}
    for name, messages in BODIES.items():
        data = msgspec.json.encode({"model": "auto", "messages": messages})
        body = msgspec.json.decode(data)
        decode_us = _us(lambda data=data: msgspec.json.decode(data), rounds)  # type: ignore[misc]
        found[name] = {"bytes": len(data), "decode_us": decode_us, "direct_us": await _direct_us(stages["fields"], body, rounds)}
        for kind, one in stages.items():
            times = []
            for _ in range(rounds):
                request = asking(body)
                start = time.perf_counter_ns()
                choice = await one.choose(request)
                times.append(time.perf_counter_ns() - start)
                assert choice is not None
                assert choice.route == "default"
            times.sort()
            median_us = statistics.median(times) / 1000
            p99_us = times[int(len(times) * 0.99)] / 1000
            over = round(median_us / decode_us, 2)
            found[name][f"decide_{kind}"] = {"p50_us": round(median_us, 1), "p99_us": round(p99_us, 1), "over_decode": over}
    return found


async def _direct_us(one: RouteStage, body: dict[str, Any], rounds: int) -> float:
    """The stage for a request that names a model."""
    request = asking(body)
    request.model = "strong"
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        await one.choose(request)
        times.append(time.perf_counter_ns() - start)
    return round(statistics.median(times) / 1000, 2)


def _us(call: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return round(statistics.median(times) / 1000, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    print(json.dumps({"rules": options.rules, **asyncio.run(measured(options.rules, options.rounds))}))


if __name__ == "__main__":
    main()
