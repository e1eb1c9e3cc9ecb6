"""The provider behind the gateway: echoes each question with a mark of its own, and misbehaves when told to."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from uuid import uuid4

from farthing.testing.replies import DONE, RESET, STALL, Cut, Json, Part, Reply, chunks, completion, error, rate_limited, sse, usage_object
from farthing.testing.upstream import ANY_MODEL, Received, ScriptedUpstream
from soaking.facts import Served

MODELS = ("one", "two", "spare")
PRICE_IN, PRICE_OUT = 100, 200
"""Micro-dollars a token: dear, so that budgets run out."""
ASK_ID = re.compile(r"ask-[0-9]{8}-[0-9a-f]{6}")
FILLER = ("A", "farthing", "was", "a", "quarter", "of", "a", "penny,", "and", "the", "smallest", "coin", "of", "its", "time.")
_RETRY_AFTER = "1"
FAULTS = ("500", "429", "stall_first", "stall_middle", "reset", "drip", "malformed")


class Provider:
    """`fault` is what befalls answers now: all of deployment `one`, half of `two`, and of `spare` one in twenty."""

    def __init__(self, seed: int) -> None:
        self.server = ScriptedUpstream(max_requests=1)
        self.server.script(ANY_MODEL, self._answer)
        self.served: list[Served] = []
        self.fault: str | None = None
        self.misbehaved = 0
        self._random = random.Random(seed)  # noqa: S311 - a load, not a secret
        self._bad: dict[str, Callable[[Json, list[bytes]], Reply]] = {
            "500": lambda _body, _events: error(500, "scripted trouble"),
            "429": lambda _body, _events: rate_limited(retry_after=_RETRY_AFTER),
            "stall_first": lambda _body, _events: Reply(parts=(STALL,), raw=True),
            "stall_middle": lambda body, events: _broken(body, events, STALL),
            "reset": lambda body, events: _broken(body, events, RESET),
            "drip": _dripping,
            "malformed": _malformed,
        }

    def _answer(self, received: Received) -> Reply:
        body = received.body
        question = str(body["messages"][-1]["content"])
        if isinstance(body["messages"][-1]["content"], list):
            question = "".join(part.get("text", "") for part in body["messages"][-1]["content"])
        found = ASK_ID.search(question)
        ask_id = (body.get("metadata") or {}).get("ask") or (found.group() if found else "?")
        nonce = uuid4().hex[:16]
        words = [*f"{question} | {nonce} |".split(" "), *FILLER[: self._random.randrange(4, len(FILLER))]]
        pieces = [word if at == 0 else f" {word}" for at, word in enumerate(words)]
        counts = usage_object(-(-len(question) // 4), len(pieces))
        model, pause = str(body["model"]), self._random.uniform(0.02, 0.3)
        events = [sse(chunk) for chunk in chunks(pieces, counts=counts, model=model)]
        bad = self.fault if self._random.random() < {"one": 1.0, "two": 0.5}.get(model, 0.05) else None
        whole = completion("".join(pieces), usage=counts, model=model, delay=pause)
        whole_events = [whole.payload()]
        self._note(ask_id, nonce, model, "".join(pieces), counts, complete=bad in {None, "drip"}, took_s=pause)
        if bad is not None:
            self.misbehaved += 1
            return self._bad[bad](body, events if body.get("stream") else whole_events)
        if not body.get("stream"):
            return whole
        return Reply(parts=(events[0], pause / 2, *events[1:6], pause / 2, *events[6:], DONE))

    def _note(self, ask_id: str, nonce: str, model: str, text: str, counts: Json, *, complete: bool, took_s: float) -> None:
        tokens_in, tokens_out = counts["prompt_tokens"], counts["completion_tokens"]
        self.served.append(
            Served(
                nonce=nonce,
                ask_id=ask_id,
                model=model,
                text=text,
                tokens_in=tokens_in,
                tokens_out=tokens_out,
                cost=tokens_in * PRICE_IN + tokens_out * PRICE_OUT,
                complete=complete,
                at=time.monotonic(),
                took_s=took_s,
            )
        )


def _broken(body: Json, events: list[bytes], cut: Cut) -> Reply:
    """In the middle of a stream, or of a whole answer's bytes."""
    if body.get("stream"):
        return Reply(parts=(*events[:5], 0.05, cut))
    data = events[0]
    return Reply(parts=(data[: len(data) // 2], cut), headers={"content-length": str(len(data)), "content-type": "application/json"})


def _dripping(body: Json, events: list[bytes]) -> Reply:
    """All of it, too slowly for anybody's liking and fast enough for every deadline."""
    if body.get("stream"):
        parts: list[Part] = []
        for event in [*events, DONE]:
            parts += (event, 0.15)
        return Reply(parts=parts)
    data = events[0]
    step = -(-len(data) // 12)
    parts = [part for at in range(0, len(data), step) for part in (data[at : at + step], 0.2)]
    return Reply(parts=parts, headers={"content-length": str(len(data)), "content-type": "application/json"})


def _malformed(body: Json, events: list[bytes]) -> Reply:
    if body.get("stream"):
        return Reply(parts=(*events[:1], b'data: {"choices": [{"delta": {"content": "half an obj\n\n', DONE))
    return Reply(body=b"<html>Bad gateway</html>", headers={"content-type": "application/json"})
