"""A response as server-sent events, as OpenAI sends them: each with its name and a sequence number, the response in the last one.

A stream that breaks ends with `response.failed` and then `error`. The latter has its fields where OpenAI documents them and once more
below `error`, where the official SDKs look before they raise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import msgspec

from farthing.errors import FarthingError
from farthing.http.responses.output import Event
from farthing.http.responses.response import Draft
from farthing.http.responses.writer import Stored
from farthing.http.sse import cost_comment
from farthing.types import Answer, Json

_encode = msgspec.json.Encoder().encode


class ResponseEvents:
    """See `http.sse.Events`. `keep` stores the response before its last event tells the client that it can be continued."""

    def __init__(self, draft: Draft, keep: Callable[[], Awaitable[Stored | None]]) -> None:
        self._draft = draft
        self._keep = keep
        self._number = 0

    def chunk(self, chunk: Json) -> bytes:
        """The events of a chunk."""
        return self._written(self._draft.add(chunk))

    async def end(self, answer: Answer) -> bytes:
        """What closes the items; then, when it is stored, the response."""
        text = self._written(self._draft.finish(answer.usage))
        stored = await self._keep()
        note = b": farthing stored=%s\n\n" % stored.encode() if stored else b""
        return text + self._written([self._draft.last()]) + note + cost_comment(answer)

    def error(self, error: FarthingError) -> bytes:
        """A failure, and what it was."""
        _, fields = error.wire()
        text = self._written(self._draft.fail(str(fields["code"]), str(fields["message"])))
        flat = {name: fields[name] for name in ("code", "message", "param")}
        return text + self._written([("error", {**flat, "error": fields})])

    def _written(self, events: Iterable[Event]) -> bytes:
        text = bytearray()
        for kind, fields in events:
            text += b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode({"type": kind, "sequence_number": self._number, **fields}))
            self._number += 1
        return bytes(text)
