"""One answer in the exact cache, in one canonical form that serves whole and streamed requests alike.

A hit equals the miss that filled it in every field but `id`, `created` and the usage detail that says that the input was cached.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from uuid import UUID

import msgspec

from farthing.pipeline.stream import Replayed, replay
from farthing.types import Answer, Completion, Json, Source

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_FRESH = ("id", "object", "created")
_CACHEABLE_ENDS = frozenset({"stop", "length", "tool_calls", "function_call"})


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`tail` is the response object without `id`, `object` and `created`, as JSON; `chunks` the deltas of a streamed one, likewise.

    `cost_microusd` is what the model call cost, `took_us` how long it took. `expires` is Unix time, and so is `fresh_until`, after which
    an answer may be given only while a new one is asked for; `ttl_s` is for how long it was fresh. `gc=False`: it holds no containers, and
    a hundred thousand entries must not be walked by each full garbage collection.
    """

    model: str
    object: str | None
    tail: bytes
    chunks: bytes | None
    cost_microusd: int
    expires: float
    fresh_until: float = math.inf
    took_us: int = 0
    ttl_s: float = 0.0

    def good_until(self, stretch: float) -> float:
        """Until when it may be given, where answers may be given for so many times their lifetime (Unix time)."""
        return self.expires if stretch <= 1 else max(self.expires, self.fresh_until + (stretch - 1) * self.ttl_s)

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return 400 + len(self.tail) + len(self.chunks or b"")

    def whole(self, request_id: UUID) -> bytes:
        """The encoded answer to a request that does not stream. It bears the request's id."""
        if self.object is None:
            return self.tail
        return b'{"id":"chatcmpl-%s","object":"%s","created":%d,%s' % (
            request_id.hex.encode(),
            self.object.encode(),
            time.time(),
            self.tail[1:],
        )

    def pieces(self, request_id: UUID) -> Iterator[Json]:
        """The chunks for a request that streams: as they came when they came streamed, else cut from the whole."""
        head = {"id": f"chatcmpl-{request_id.hex}", "object": "chat.completion.chunk", "created": int(time.time())}
        if self.chunks is not None:
            for chunk in _decode(self.chunks):
                yield {**head, **chunk}
            return
        for chunk in replay({**head, **_decode(self.tail)}):
            yield {**chunk, **head}

    def usage(self) -> Json | None:
        """The usage object of a hit."""
        usage = _decode(self.tail).get("usage")
        return usage if isinstance(usage, dict) else None

    def text(self) -> str | None:
        """What the answer says, where it is one text and nothing else."""
        choices = _decode(self.tail).get("choices") or ()
        messages = [choice["message"] for choice in choices]
        if len(messages) != 1 or messages[0].get("tool_calls") or messages[0].get("function_call") or messages[0].get("audio"):
            return None
        content = messages[0].get("content")
        return content if isinstance(content, str) and content.strip() else None

    def answer(self, source: Source, request_id: UUID, *, stream: bool) -> Answer:
        """The hit, whole or as a stream."""
        answer = Answer(source=source, model=self.model, saved_microusd=self.cost_microusd)
        if stream:
            answer.stream = Replayed(self.pieces(request_id))
            answer.usage = self.usage()
        else:
            answer.body = self.whole(request_id)
        return answer


class Life(msgspec.Struct, frozen=True):
    """How long an answer is fresh, and how long after that it may still be given while a new one is asked for. Seconds."""

    ttl_s: float
    stale_s: float


def make_entry(completion: Completion, *, model: str, cost_microusd: int, took_us: int, life: Life) -> Entry | None:
    """The entry for an answer, or None when it must not be kept: cut off by a filter, refused, empty, or without a reason of its end."""
    body = completion.body
    if "choices" in body and not all(_worth_keeping(choice) for choice in body["choices"]):
        return None
    kept = {key: value for key, value in body.items() if key not in _FRESH}
    usage = body.get("usage")
    if isinstance(usage, dict):
        kept["usage"] = _said_cached(usage)
    if "choices" not in body:
        kept = {"object": body.get("object", "list"), **kept}
    chunks = [{key: value for key, value in chunk.items() if key not in _FRESH} for chunk in completion.chunks or ()]
    fresh_until = time.time() + life.ttl_s
    return Entry(
        model=model,
        object=str(body["object"]) if "choices" in body else None,
        tail=_encode(kept),
        chunks=_encode(chunks) if chunks else None,
        cost_microusd=cost_microusd,
        expires=fresh_until + life.stale_s,
        fresh_until=fresh_until,
        took_us=took_us,
        ttl_s=life.ttl_s,
    )


def _worth_keeping(choice: Json) -> bool:
    message = choice["message"]
    says = message.get("content") or message.get("tool_calls") or message.get("function_call")
    ended = choice.get("finish_reason")
    return bool(says) and not message.get("refusal") and isinstance(ended, str) and ended in _CACHEABLE_ENDS


def _said_cached(usage: Json) -> Json:
    details = usage.get("prompt_tokens_details")
    known = details if isinstance(details, dict) else {}
    return {**usage, "prompt_tokens_details": {**known, "cached_tokens": usage.get("prompt_tokens", 0)}}


def pack(entry: Entry) -> bytes:
    """For the shared tier."""
    return msgspec.msgpack.encode(entry)


def unpack(payload: bytes) -> Entry | None:
    """From the shared tier; None when another version of Farthing wrote it."""
    try:
        return msgspec.msgpack.decode(payload, type=Entry)
    except msgspec.MsgspecError:
        return None
