"""What the cheap checks cost on an answer of about 300 tokens, prose and JSON. In process, one after the other, nobody else asked.

    python bench/checks.py [--rounds 300]

Prints one JSON line. `us` is microseconds for each check, medians; `total_us` for all of them together, as a cascade does them; `ratio`
is that total over the time that the standard library's `json.loads` takes for the same completion, measured in turn with it. `validator_us`
is a round trip to a validator's process with a function that does nothing. The aim is a total of at most 300.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from farthing.routing.checks.check import Answered, Check
from farthing.routing.checks.compile import KINDS, checks_of_request
from farthing.routing.checks.placed import Undecided
from farthing.routing.checks.validator import ValidatorProcess
from farthing.types import Extras, Json, Lifeline, Operation, Principal, Request, new_id

GIVEN: list[Json] = [
    {"kind": "empty"},
    {"kind": "truncated"},
    {"kind": "refusal"},
    {"kind": "repetition"},
    {"kind": "pattern", "must_not_match": r"(?i)\b(?:lorem ipsum|as an ai)\b"},
    {"kind": "json_schema"},
    {"kind": "confidence", "min_mean": -1},
]
PROSE = (
    "A refund is due when the parcel has not arrived {at} days after the last day that was promised. Open the order, choose the item, and "
    "say that it is missing; the carrier then has a week to find it. If it does not, the money goes back to the card that was used. "
)
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "price": {"type": "number", "minimum": 0}, "tags": {"type": "array"}},
                "required": ["name", "price"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["items"],
}
ITEMS = {"items": [{"name": f"Lamp no. {at}", "price": 10 + at * 3.5, "tags": ["home", f"room {at * 7 % 11}"]} for at in range(18)]}


def answered(text: str, body: Json) -> Answered:
    request = Request(
        id=new_id(),
        principal=Principal(key_id=UUID(int=1), tenant="acme"),
        operation=Operation.CHAT,
        body=body,
        model="auto",
        extras=Extras(),
        started_ns=0,
        lifeline=Lifeline(None),
    )
    words: list[Json] = [{"token": "word ", "logprob": -0.1 - at % 7 / 10, "bytes": None, "top_logprobs": []} for at in range(300)]
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": {"content": words}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 20, "completion_tokens": 300, "total_tokens": 320}
    return Answered(request=request, model="weak", body={"choices": [choice], "usage": usage}, whole=True)


async def timed(work: Callable[[], Awaitable[Any]], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        await work()
        taken.append((time.perf_counter_ns() - began) / 1000)
    return statistics.median(taken)


async def all_of(checks: tuple[Check, ...], looked_at: Answered) -> None:
    for check in checks:
        said = await check.judge(looked_at)
        assert said is None, (check.name, said)


async def measured(text: str, body: Json, rounds: int) -> Json:
    looked_at, checks = answered(text, body), checks_of_request(GIVEN, Undecided(KINDS))
    plain = json.dumps({"choices": [{"message": {"content": text}}], "usage": looked_at.body["usage"]})

    async def parse() -> None:
        json.loads(plain)

    await all_of(checks, looked_at)
    each = {check.name: round(await timed(lambda check=check: check.judge(looked_at), rounds), 1) for check in checks}  # type: ignore[misc]
    totals, parses = [], []
    for _ in range(10):
        totals.append(await timed(lambda: all_of(checks, looked_at), max(1, rounds // 10)))
        parses.append(await timed(parse, rounds))
    total, parsing = statistics.median(totals), statistics.median(parses)
    return {
        "chars": len(text),
        "us": each,
        "total_us": round(total, 1),
        "json_loads_us": round(parsing, 1),
        "ratio": round(total / parsing, 1),
    }


async def run(rounds: int) -> Json:
    prose = "".join(PROSE.format(at=at) for at in range(5))[:1300]
    shape = {"response_format": {"type": "json_schema", "json_schema": {"name": "items", "schema": SCHEMA}}}
    process = ValidatorProcess("operator:eq", 1024)
    try:
        await process.ask(prose, {}, 5.0)
        trip = await timed(lambda: process.ask(prose, {}, 5.0), rounds)
    finally:
        await process.close()
    return {
        "prose": await measured(prose, {"messages": [{"role": "user", "content": "Where is my money?"}]}, rounds),
        "json": await measured(json.dumps(ITEMS), shape, rounds),
        "validator_us": round(trip, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    print(json.dumps(asyncio.run(run(parser.parse_args().rounds))))
