"""Upstreams of a known quality, for a `ScriptedUpstream`: good answers, and bad ones for a share of the questions.

    up.script("weak", of_share(0.3, bad_json('{"a": 1}'), says('{"a": 1}')))

Which question gets a bad answer is decided by its text, so that the same one gets the same answer each time, whoever counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from farthing.testing.echo import Received, last_user_text
from farthing.testing.replies import Reply, completion, stream, usage_object

Answerer = Callable[[Received], Reply]
_PIECE = 8


def says(text: str, *, finish_reason: str | None = None) -> Answerer:
    """The same text each time, whole or as a stream, as it was asked for."""

    def answer(received: Received) -> Reply:
        pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
        counts = usage_object(9, max(1, len(pieces)))
        model = received.model or "scripted"
        if not received.body.get("stream"):
            return completion(text, usage=counts, model=model, finish_reason=finish_reason)
        include = bool((received.body.get("stream_options") or {}).get("include_usage"))
        return stream(pieces, usage=include, counts=counts, model=model, finish_reason=finish_reason)

    return answer


def bad_json(document: str) -> Answerer:
    """A document as models spoil it: in a code fence, with words before it, cut off, or with a comma too many."""
    flaws = [f"```json\n{document}\n```", f"Sure! Here it is: {document}", document[:-1], f"{document[:-1]},}}"]

    def answer(received: Received) -> Reply:
        return says(flaws[_number(received) % len(flaws)])(received)

    return answer


def of_share(share: float, these: Answerer, others: Answerer) -> Answerer:
    """`these` for a share of the questions, `others` for the rest."""

    def answer(received: Received) -> Reply:
        return these(received) if in_share(last_user_text(received.body), share) else others(received)

    return answer


def in_share(question: str, share: float) -> bool:
    """Whether a question is among that share of all."""
    return int.from_bytes(hashlib.sha256(question.encode("utf-8", "surrogatepass")).digest()[:6], "big") < share * 2**48


def _number(received: Received) -> int:
    return hashlib.sha256(last_user_text(received.body).encode("utf-8", "surrogatepass")).digest()[-1]
