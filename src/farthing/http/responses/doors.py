"""The doors: POST /v1/responses, and what is below it."""

from __future__ import annotations

from urllib.parse import parse_qs

import msgspec

from farthing.errors import FarthingError, InvalidRequest, MethodNotAllowed, NotFound, PreviousResponseNotFound
from farthing.http import parse
from farthing.http.asgi import Receive, Scope, Send, id_headers, send_whole
from farthing.http.passage import Passage, answer_headers
from farthing.http.responses.conversations import Conversations, Turn
from farthing.http.responses.events import ResponseEvents
from farthing.http.responses.items import ItemIds, read_items, response_id, response_of
from farthing.http.responses.messages import messages_of
from farthing.http.responses.request import chat_body, check
from farthing.http.responses.response import Draft
from farthing.http.responses.writer import Stored
from farthing.http.sse import send_events
from farthing.types import Answer, Json, Request

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_PREFIX = "/v1/responses/"
_MOST_LISTED = 100
_MOST_REFERENCES = 100


class ResponsesDoors:
    """Turns bodies of /v1/responses into chat requests and chat answers into responses."""

    def __init__(self, passage: Passage, conversations: Conversations) -> None:
        self._passage = passage
        self._conversations = conversations

    async def create(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """POST /v1/responses."""
        ids = ItemIds(request.id)
        with self._passage.entering(request):
            typed, request.body = parse.responses(await self._passage.body(request, scope, receive))
            request.stream, request.foreign = bool(typed.stream), True
            self._passage.admit(request, typed.model, scope)
            if typed.store is False:
                request.extras = msgspec.structs.replace(request.extras, store=False)
            check(typed, request.body)
            items = await self._resolved(request, read_items(typed.input, ids))
            history = await self._history(request, typed.previous_response_id)
            request.body = chat_body(typed, request.body, messages_of(typed.instructions, [*_all_items(history), *items]))
        answer = await self._passage.flow(request)
        store = typed.store is not False and self._conversations.enabled
        draft = Draft(request.id, typed, ids, store=store)

        async def keep() -> Stored | None:
            return await self._keep(request, draft, items) if store else None

        headers = answer_headers(request, answer)
        if answer.stream is not None:
            await send_events(scope, send, headers, answer, ResponseEvents(draft, keep))
            return
        body = _whole(answer)
        draft.add_whole(body)
        draft.finish(body.get("usage"))
        stored = await keep()
        if stored is not None:
            headers.append((b"x-farthing-stored", stored.encode()))
        await send_whole(scope, send, 200, headers, _encode(draft.response))

    async def _keep(self, request: Request, draft: Draft, items: list[Json]) -> Stored:
        turn = Turn(response=draft.response, items=items)
        stored = await self._conversations.keep(request.principal.tenant, request.user, turn)
        if stored == "no":
            draft.response["store"] = False
        return stored

    async def _history(self, request: Request, previous: str | None) -> list[Turn]:
        """The turns before. Their size counts like the body's: it says what the request may cost."""
        if previous is None:
            return []
        turns = await self._conversations.history(request.principal.tenant, previous)
        request.size += sum(turn.size for turn in turns)
        return turns

    async def _resolved(self, request: Request, items: list[Json]) -> list[Json]:
        """Items in place of references to them. Raises `InvalidRequest` for one that leads nowhere."""
        names = [item["id"] for item in items if item["type"] == "item_reference"]
        if not names:
            return items
        wanted = {turn_id for name in names if (turn_id := response_of(name)) is not None}
        if len(wanted) > _MOST_REFERENCES:
            raise InvalidRequest(f"input refers to items of more than {_MOST_REFERENCES} responses", param="input")
        turns = await self._conversations.find_all(request.principal.tenant, wanted)
        request.size += sum(turn.size for turn in turns)
        known = {item["id"]: item for item in _all_items(turns)}
        missing = next((name for name in names if name not in known), None)
        if missing is not None:
            raise InvalidRequest(f"Item with id {missing[:128]!r} not found: send the item itself", param="input")
        return [known[item["id"]] if item["type"] == "item_reference" else item for item in items]

    async def below(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        """GET and DELETE /v1/responses/{id}, GET /v1/responses/{id}/input_items."""
        del receive
        name, _, rest = scope["path"].removeprefix(_PREFIX).partition("/")
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        match scope["method"], rest:
            case "GET" | "HEAD", "":
                found: Json = (await self._found(request, name, query)).response
            case "GET" | "HEAD", "input_items":
                found = await self._input_items(request, name, query)
            case "DELETE", "":
                turn_id = response_id(name)
                if turn_id is None or not await self._conversations.delete(request.principal.tenant, turn_id):
                    raise _no_response(name)
                found = {"id": name, "object": "response", "deleted": True}
            case _:
                raise _no_door(scope, name, rest)
        body = b"" if scope["method"] == "HEAD" else _encode(found)
        await send_whole(scope, send, 200, id_headers(request.id), body)

    async def _found(self, request: Request, name: str, query: dict[str, list[str]]) -> Turn:
        if query.get("stream", ["false"])[-1] not in {"false", ""}:
            raise InvalidRequest("stream: only a response in the background could be streamed again, and there are none", param="stream")
        turn_id = response_id(name)
        turn = await self._conversations.find(request.principal.tenant, turn_id) if turn_id else None
        if turn is None:
            raise _no_response(name)
        return turn

    async def _input_items(self, request: Request, name: str, query: dict[str, list[str]]) -> Json:
        """All items that the model was given, those of earlier turns included as far as they are still there."""
        turn = await self._found(request, name, {})
        previous = turn.response["previous_response_id"]
        try:
            history = await self._conversations.history(request.principal.tenant, previous) if previous else []
        except PreviousResponseNotFound:
            history = []
        return page([*_all_items(history), *turn.items], query)


def page(items: list[Json], query: dict[str, list[str]]) -> Json:
    """A page of a list, by OpenAI's cursors. Raises `InvalidRequest`."""
    order = query.get("order", ["desc"])[-1]
    if order not in {"asc", "desc"}:
        raise InvalidRequest("order must be 'asc' or 'desc'", param="order")
    limit = query.get("limit", ["20"])[-1]
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= len(str(_MOST_LISTED)) and 1 <= int(limit) <= _MOST_LISTED):
        raise InvalidRequest(f"limit must be a number from 1 to {_MOST_LISTED}", param="limit")
    listed = items if order == "asc" else items[::-1]
    after = query.get("after", [""])[-1]
    if after:
        at = next((at for at, item in enumerate(listed) if item["id"] == after), None)
        if at is None:
            raise InvalidRequest(f"after: there is no item {after[:128]!r} in this list", param="after")
        listed = listed[at + 1 :]
    data = listed[: int(limit)]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, **ends, "has_more": len(listed) > len(data)}


def _all_items(turns: list[Turn]) -> list[Json]:
    return [item for turn in turns for item in (*turn.items, *turn.response["output"])]


def _whole(answer: Answer) -> Json:
    if answer.completion is not None:
        return answer.completion.body
    body: Json = _decode(answer.body or b"")
    return body


def _no_response(name: str) -> NotFound:
    return NotFound(f"Response with id {name[:128]!r} not found.")


def _no_door(scope: Scope, name: str, rest: str) -> FarthingError:
    """What to say at the doors that OpenAI has and we have not."""
    if scope["method"] == "POST" and (rest == "cancel" or name in {"compact", "input_tokens"}):
        return NotFound(f"There is no {scope['path'][:200]!r} here: responses are not run in the background, compacted or counted.")
    if rest not in {"", "input_items"}:
        return NotFound(f"There is no {scope['path'][:200]!r} here.")
    allowed = "DELETE, GET" if not rest else "GET"
    return MethodNotAllowed(f"{scope['path'][:200]} takes {allowed}, not {scope['method'][:16]}.", allowed=allowed)
