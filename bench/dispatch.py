"""What dispatch itself costs, in process: straight to the model, by a router's choice, and with checks that pass.

    python bench/dispatch.py [--requests 3000] [--rounds 9]

The provider answers at once, so that all that is measured is Farthing's. Rounds alternate between the cases, and the best round of each
counts. Prints one JSON line: microseconds of processor time a request, and ratios to the straight way.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import AsyncGenerator
from uuid import UUID

import msgspec

from farthing.ports import Call
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model
from farthing.routing.dispatch import Dispatch
from farthing.spend.meter import LedgerMeter
from farthing.testing.purse import OpenPurse
from farthing.types import Completion, Extras, Json, LedgerEntry, Lifeline, Operation, Price, Principal, Request, new_id

WHO = Principal(key_id=UUID(int=1), tenant="t")
PRICE = Price(input=1_000_000, output=2_000_000, source="settings")
CHUNKS = 40
USAGE: Json = {"prompt_tokens": 20, "completion_tokens": CHUNKS, "total_tokens": 20 + CHUNKS}


class AtOnce:
    """A provider that has the answer already."""

    name = "at-once"
    kind = "openai_compatible"
    open_connections = 0

    async def healthy(self) -> bool:
        return True

    async def chat(self, call: Call) -> Completion:
        message = {"role": "assistant", "content": '{"word": "x"}' * CHUNKS, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        head = {"id": "c", "object": "chat.completion", "created": 1, "model": call.upstream_model}
        return Completion(body={**head, "choices": [choice], "usage": USAGE})

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": call.upstream_model}
        for at in range(CHUNKS):
            finish = "stop" if at + 1 == CHUNKS else None
            yield {**head, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": finish}]}, None
        yield None, USAGE

    async def embed(self, call: Call) -> Completion:
        raise NotImplementedError(call.upstream_model)

    async def aclose(self) -> None:
        pass


class Nowhere:
    """A ledger that keeps nothing."""

    def record(self, entry: LedgerEntry) -> None:
        pass


class Cheap:
    """A check that looks at the answer's length."""

    hold = float("inf")

    def __init__(self, name: str) -> None:
        self.name = name

    async def judge(self, answered: object) -> str | None:
        content = answered.body["choices"][0]["message"]["content"]  # type: ignore[attr-defined]
        return None if content and len(content) > 1 else "empty"


def cases() -> dict[str, object]:
    try:
        from farthing.routing.choice import Choice  # noqa: PLC0415 - an older tree, to compare with, has none
    except ImportError:
        return {"direct": None}
    models, checks = ("fast", "strong"), tuple(Cheap(name) for name in ("a", "b", "c"))
    return {
        "direct": None,
        "routed": Choice(models=("fast",), baseline="strong", route="rule:r"),
        "unchecked": Choice(models=models, baseline="strong", route="rule:r"),
        "checked": Choice(models=models, baseline="strong", route="rule:r", checks=checks),
    }


def request(choice: object, *, streams: bool) -> Request:
    found = Request(
        id=new_id(),
        principal=WHO,
        operation=Operation.CHAT,
        body={"model": "fast", "messages": [{"role": "user", "content": "12345678"}]},
        model="fast",
        extras=Extras(),
        stream=streams,
        started_ns=time.perf_counter_ns(),
        lifeline=Lifeline(None),
    )
    if choice is not None:
        found.choice = choice
    return found


async def one_round(dispatch: Dispatch, choice: object, requests: int, *, streams: bool) -> float:
    began = time.process_time()
    for _ in range(requests):
        answer = await dispatch(request(choice, streams=streams))
        if answer.stream is not None:
            async for _chunk in answer.stream:
                pass
            await answer.stream.aclose()
    return (time.process_time() - began) * 1e6 / requests


async def measure(requests: int, rounds: int) -> dict[str, object]:
    provider = AtOnce()
    models = [
        Model(
            name=name,
            operation=Operation.CHAT,
            deployments=(
                Deployment(
                    model=name,
                    provider=provider,
                    upstream_model=name,
                    weight=1,
                    price=PRICE,
                    retries=0,
                    cooldown=Cooldown(3, 30.0, time.monotonic),
                ),
            ),
        )
        for name in ("fast", "strong")
    ]
    purse = OpenPurse()
    catalogue = Catalogue(models, random.Random())  # noqa: S311 - spreads load, guards nothing
    dispatch = Dispatch(catalogue, LedgerMeter(Nowhere(), [], anonymous_per_minute=1), purse, lambda _: None)
    found: dict[str, object] = {}
    for streams in (False, True):
        best = dict.fromkeys(cases(), float("inf"))
        for _ in range(rounds):
            for name, choice in cases().items():
                best[name] = min(best[name], await one_round(dispatch, choice, requests, streams=streams))
                purse.reserved.clear()
                purse.settled.clear()
        kind = "streamed" if streams else "whole"
        found[f"{kind}_us"] = {name: round(us, 2) for name, us in best.items()}
        found[f"{kind}_ratio"] = {name: round(us / best["direct"], 3) for name, us in best.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    print(msgspec.json.encode(asyncio.run(measure(given.requests, given.rounds))).decode())


if __name__ == "__main__":
    main()
