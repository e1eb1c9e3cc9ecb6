"""The door of clicks: GET /edge/{action}. The answer to an action as it is, not wrapped into anything."""

from __future__ import annotations

from urllib.parse import parse_qsl

import msgspec

from farthing.errors import InvalidRequest, NotAllowed, NotFound
from farthing.http.asgi import JSON_TYPE, Headers, Receive, Scope, Send, header, send_whole
from farthing.http.passage import Passage, answer_headers
from farthing.settings import nearest
from farthing.types import Answer, Json, Request, Source, utc_now

_TEXT_TYPE = (b"content-type", b"text/plain; charset=utf-8")
_PREFIX = "/edge/"
_PARAMETERS = frozenset({"user"})
_MOST_QUERY = 2048
ModelOf = dict[str, str]
"""Which model answers an action, by the action's name."""


class EdgeDoor:
    """`models` are those of the actions that there are."""

    def __init__(self, passage: Passage, models: ModelOf) -> None:
        self._passage = passage
        self._models = models

    async def get(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """GET or HEAD /edge/{action}."""
        del receive
        with self._passage.entering(request):
            action = str(scope["path"]).removeprefix(_PREFIX)
            model = self._models.get(action)
            if model is None:
                known = nearest(action[:64], set(self._models))
                raise NotFound(f"there is no action {action[:64]!r}{known}", param="action")
            request.body = {"messages": [], "farthing": _extras(action, scope["query_string"])}
            self._passage.admit(request, model, scope)
            _agree(request)
        answer = await self._passage.flow(request)
        headers = [*answer_headers(request, answer), *_about(answer)]
        if answer.edge is not None and _known_already(scope, _etag(answer)):
            await _send(send, 304, headers)
            return
        content, kind = _content(answer)
        if scope["method"] == "HEAD":
            await _send(send, 200, [*headers, kind, (b"content-length", b"%d" % len(content))])
        else:
            await send_whole(scope, send, 200, headers, content, kind=kind)


def _extras(action: str, query: bytes) -> Json:
    """The extras that the URL says."""
    if len(query) > _MOST_QUERY:
        raise InvalidRequest(f"the query is longer than {_MOST_QUERY} bytes")
    extras: Json = {"action": action}
    for name, value in parse_qsl(str(query, "latin-1"), keep_blank_values=True, max_num_fields=None):
        if name not in _PARAMETERS:
            raise InvalidRequest(f"there is no parameter {name[:64]!r}{nearest(name[:64], set(_PARAMETERS))}", param=name[:64])
        if name in extras:
            raise InvalidRequest(f"{name} is given twice", param=name)
        extras[name] = value
    return extras


def _agree(request: Request) -> None:
    """A key of a user asks for that user only; whoever names another one is told so, and not given the key's own."""
    mine, named = request.principal.user, request.extras.user
    if mine is not None and named is not None and named != mine:
        raise NotAllowed("this key speaks for one user, and not for the one that was named", param="user")


def _content(answer: Answer) -> tuple[bytes, tuple[bytes, bytes]]:
    """What the model said, and of which type it is."""
    body = answer.edge.body if answer.edge is not None else None
    if body is None:
        choices = msgspec.json.decode(answer.body or b"{}").get("choices") or [{}]
        body = {"content": (choices[0].get("message") or {}).get("content") or "", "format": "text"}
    kind = JSON_TYPE if body.get("format") == "json" else _TEXT_TYPE
    return str(body["content"]).encode(errors="replace"), kind


def _etag(answer: Answer) -> bytes:
    """Each answer that is kept has one of its own."""
    assert answer.edge is not None
    return b'"%s"' % answer.edge.request_id.hex.encode()


def _about(answer: Answer) -> Headers:
    """How old it is, and that nobody may keep it who does not ask again: only the store knows whether it is still fresh."""
    headers = [(b"cache-control", b"private, no-cache"), (b"vary", b"authorization, x-api-key")]
    if answer.edge is None:
        return headers
    age = max(0, int((utc_now() - answer.edge.made_at).total_seconds())) if answer.source is Source.EDGE else 0
    return [*headers, (b"etag", _etag(answer)), (b"age", b"%d" % age)]


def _known_already(scope: Scope, etag: bytes) -> bool:
    """Whether the client has it (If-None-Match, RFC 9110, section 13.1.2)."""
    given = header(scope, b"if-none-match")
    if given is None:
        return False
    known = [one.strip().removeprefix("W/") for one in given.split(",")]
    return "*" in known or etag.decode() in known


async def _send(send: Send, status: int, headers: Headers) -> None:
    """An answer without a body."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": b""})
