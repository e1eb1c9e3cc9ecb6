"""Putting what is remembered into a request's messages. Pure, but for the request that it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from farthing.memory.conversations import Spoken
from farthing.memory.wanted import leading
from farthing.pipeline.history import orphans, turn_starts, without_before
from farthing.pipeline.tokens import BYTES_PER_TOKEN, PER_MESSAGE, count_request, count_text
from farthing.types import Json, Request

_CUT: Final = "…"


def put(request: Request, remembered: str | None, latest: Sequence[Spoken]) -> None:
    """Put the block behind the leading instructions, and the latest turns of the conversation behind that.

    The instructions stay as they are, and in front: what they begin with is what providers keep in their prompt caches.
    """
    added: list[Json] = [{"role": "system", "content": remembered}] if remembered is not None else []
    added += [{"role": one.turn.role, "content": one.text} for one in latest]
    if not added:
        return
    messages: list[Any] = request.body["messages"]
    at = leading(messages)
    request.body = {**request.body, "messages": [*messages[:at], *added, *messages[at:]]}
    if request.size:
        request.size += sum(len(str(one["content"]).encode(errors="replace")) for one in added)


def recent(history: Sequence[Spoken], *, turns: int, max_tokens: int) -> list[Spoken]:
    """The last turns that fit, in order. The last one of all is cut rather than left out."""
    room = max_tokens
    found: list[Spoken] = []
    for one in reversed(history[-turns:]):
        size = PER_MESSAGE + count_text(one.text)
        if size > room:
            if not found and room > PER_MESSAGE:
                found.append(Spoken(turn=one.turn, text=cut(one.text, (room - PER_MESSAGE) * BYTES_PER_TOKEN)))
            break
        room -= size
        found.append(one)
    return found[::-1]


def cut(text: str, most: int) -> str:
    """A text as it is, or what of its beginning goes into so many bytes, with a mark that it was cut."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= most:
        return text
    return encoded[: max(most - len(_CUT.encode()), 0)].decode(errors="ignore") + _CUT


def kept_history(request: Request, *, turns: int, max_tokens: int) -> None:
    """Leave of the turns that a client sends only the last messages within the bounds, the question itself in any case.

    It begins with a user's turn, and no tool's result is sent without its call.
    """
    messages: list[Any] = request.body["messages"]
    begin = leading(messages)
    starts = [at for at in turn_starts(messages) if at >= begin]
    for at in starts:
        rest = messages[at:]
        within = len(rest) <= turns + 1 and count_request({"messages": rest}) <= max_tokens
        if (within or at == starts[-1]) and not orphans(messages, at):
            if at > begin:
                request.body = {**request.body, "messages": without_before(messages, at)}
            return
