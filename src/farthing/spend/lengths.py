"""How much an attempt may use, before it is made: the caller's own bound, else what the model's last answers were like."""

from __future__ import annotations

from collections import deque

import msgspec

from farthing.pipeline.tokens import BYTES_PER_TOKEN, count_request
from farthing.types import Json, Operation, Request, Usage

_encode = msgspec.json.Encoder().encode
_BYTES_PER_TOKEN = 3
"""English has 4 to 5 bytes a token, other scripts 2 to 4, and the JSON around them is more: rather too many tokens than too few."""
_PLAIN_BYTES = 32_768
"""Larger bodies may hold images, whose bytes say nothing about tokens: their texts are counted."""
_PER_IMAGE = 1_600
"""OpenAI and Anthropic bill a large image with up to about 1,600 tokens."""
_MEMORY = 64
_ENOUGH = 8
_FLOOR = 16
_MARGIN = 1.25
_MOST_MODELS = 1_000
_MOST_TOKENS = 100_000_000


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens: `input` in, `wanted` out to be safe, `least` out without which it is not worth beginning. `exact`: the caller's own bound."""

    input: int
    wanted: int
    least: int
    exact: bool


class _Seen:
    """The last answers of a model: `high` is the longest, `mean` about the usual one. Brought up to date now and then."""

    __slots__ = ("_last", "count", "high", "mean")

    def __init__(self) -> None:
        self._last: deque[int] = deque(maxlen=_MEMORY)
        self.count = 0
        self.high = 0
        self.mean = 0

    def add(self, tokens: int) -> None:
        self._last.append(tokens)
        self.count += 1
        self.high = max(self.high, tokens)
        if self.count <= _ENOUGH or self.count % _ENOUGH == 0:
            self.high = max(self._last)
            self.mean = sum(self._last) // len(self._last)


class Lengths:
    """Remembers how long the last answers of each model were. `assumed` output tokens count while it has seen none."""

    def __init__(self, assumed: int) -> None:
        self._assumed = assumed
        self._seen: dict[str, _Seen] = {}

    def saw(self, upstream_model: str, usage: Usage) -> None:
        """An answer came to its end."""
        seen = self._seen.get(upstream_model)
        if seen is None:
            if len(self._seen) >= _MOST_MODELS:
                return
            seen = self._seen[upstream_model] = _Seen()
        seen.add(usage.output)

    def bounds(self, request: Request, upstream_model: str) -> Bounds:
        """For one attempt."""
        tokens_in = input_bound(request)
        if request.operation is not Operation.CHAT:
            return Bounds(input=tokens_in, wanted=0, least=0, exact=True)
        body = request.body
        choices = _count(body.get("n")) or 1
        most = _count(body.get("max_completion_tokens")) or _count(body.get("max_tokens"))
        if most is not None:
            return Bounds(input=tokens_in, wanted=most * choices, least=most * choices, exact=True)
        seen = self._seen.get(upstream_model)
        if seen is None:
            return Bounds(input=tokens_in, wanted=(self._assumed + _thinking(body)) * choices, least=_FLOOR * choices, exact=False)
        wanted = int(seen.high * _MARGIN) + _FLOOR
        least = seen.mean if seen.count >= _ENOUGH else _FLOOR
        return Bounds(input=tokens_in, wanted=wanted * choices, least=min(wanted, max(least, _FLOOR)) * choices, exact=False)


def input_bound(request: Request) -> int:
    """Input tokens, rather too many than too few."""
    if 0 < request.size <= _PLAIN_BYTES:
        return request.size // _BYTES_PER_TOKEN + 1
    body = request.body
    extra = sum(len(_encode(body[name])) for name in ("tools", "functions", "response_format") if body.get(name))
    return (count_request(body) * BYTES_PER_TOKEN + extra) // _BYTES_PER_TOKEN + 1 + _images(body) * _PER_IMAGE


def _thinking(body: Json) -> int:
    """Tokens that the caller lets a model think with, on top of the answer (Anthropic's `thinking.budget_tokens`)."""
    thinking = body.get("thinking")
    return (_count(thinking.get("budget_tokens")) or 0) if isinstance(thinking, dict) else 0


def _images(body: Json) -> int:
    """Parts of messages that are not text."""
    messages = body.get("messages")
    parts = (message.get("content") for message in messages if isinstance(message, dict)) if isinstance(messages, list) else ()
    return sum(part.get("type") != "text" for parts_ in parts if isinstance(parts_, list) for part in parts_ if isinstance(part, dict))


def _count(value: object) -> int | None:
    return min(value, _MOST_TOKENS) if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
