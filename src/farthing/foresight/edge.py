"""The edge stage: a click is answered by what was computed ahead; else by the model, once, and the answer is kept.

What is kept hangs on versions that were read before the context was: an answer is given only while the database says that none of them
has gone up. Who waits for an answer that is being made looks into the store when it is there, and not at the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial

import msgspec

from farthing.errors import FarthingError, InvalidRequest, NotFound, UpstreamMalformed
from farthing.foresight.action import Action, Briefing, NoContext
from farthing.foresight.answers import completion_of, edge_answer, said, size_of
from farthing.foresight.click_book import ClickBook
from farthing.foresight.flights import Flights
from farthing.foresight.states import dependencies
from farthing.pipeline.stage import Next
from farthing.pipeline.stream import Replayed, Tee, replay
from farthing.ports import EdgeStore
from farthing.settings import ForesightSettings, nearest
from farthing.types import Answer, Click, Completion, EdgeAnswer, Json, Operation, Request, Source, utc_now

_log = logging.getLogger("farthing.foresight")
_encode = msgspec.json.Encoder().encode
Admit = Callable[[Request], str]
_MOST_STORING = 256


class EdgeStage:
    """See `pipeline.stage.Stage`. `hits`, `misses`, `stale` (made, but not kept) and `away` (no word from the store) are counted."""

    def __init__(
        self,
        actions: Mapping[str, Action],
        settings: ForesightSettings,
        store: EdgeStore,
        briefing: Briefing,
        flights: Flights,
        book: ClickBook,
        admit: Admit,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._actions = actions
        self._settings = settings
        self._store = store
        self._briefing = briefing
        self._flights = flights
        self._book = book
        self._admit = admit
        self._clock = clock
        self._storing: set[asyncio.Task[None]] = set()
        self.hits = self.misses = self.stale = self.away = 0

    def __call__(self, request: Request, following: Next) -> Awaitable[Answer]:
        """Not a coroutine of its own: most requests are for no action."""
        return following(request) if request.extras.action is None else self._act(request, following)

    async def _act(self, request: Request, following: Next) -> Answer:
        action = self._action(request)
        if request.prompt is not None:
            raise InvalidRequest("farthing.prompt: an action has a prompt of its own; name one of both", param="farthing.prompt")
        user = request.user
        if user is None:
            raise InvalidRequest(
                "an action is for a user: ask with a key that was made for one, or name one in farthing.user (for GET /edge: ?user=)",
                param="farthing.user",
            )
        request.model = action.settings.model
        request.fingerprint = self._admit(request)
        place = (request.principal.tenant, user, action.name)
        if request.extras.cache == "on":
            found = await self._find(place)
            if found is None and await self._flights.wait(place, self._settings.follow_timeout_s):
                found = await self._find(place)
            if found is not None:
                return self._hit(request, found)
        self.misses += 1
        self._count(place, None)
        return await self._lead(request, following, action, place)

    def _action(self, request: Request) -> Action:
        name = request.extras.action or ""
        if request.operation is not Operation.CHAT:
            raise InvalidRequest(f"farthing.action: an action is a chat, not {request.operation}", param="farthing.action")
        action = self._actions.get(name)
        if action is None:
            raise NotFound(f"there is no action {name[:64]!r}{nearest(name[:64], set(self._actions))}", param="farthing.action")
        return action

    async def _find(self, place: tuple[str, str, str]) -> EdgeAnswer | None:
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                return await self._store.get(*place)
        except (FarthingError, TimeoutError) as error:
            self.away += 1
            _log.debug("no word from the edge store: %s", error)
            return None

    def _hit(self, request: Request, found: EdgeAnswer) -> Answer:
        self.hits += 1
        self._count((found.tenant, found.user, found.action), found)
        completion = completion_of(found)
        answer = Answer(source=Source.EDGE, model=found.model, saved_microusd=found.cost_microusd, edge=found)
        if request.stream:
            answer.stream, answer.usage = Replayed(replay(completion)), completion["usage"]
        else:
            answer.body, answer.completion = _encode(completion), Completion(body=completion)
        return answer

    def _count(self, place: tuple[str, str, str], found: EdgeAnswer | None) -> None:
        tenant, user, action = place
        known = (found.request_id, found.cost_microusd) if found is not None else (None, 0)
        click = Click(tenant=tenant, user=user, action=action, request_id=known[0], saved_microusd=known[1], at=self._clock())
        self._book.clicked(click)

    async def _lead(self, request: Request, following: Next, action: Action, place: tuple[str, str, str]) -> Answer:
        mine = place not in self._flights
        if mine:
            self._flights.begin(place, request.lifeline)
        streaming = False
        try:
            versions = await self._versions(action, place)
            request.body = await self._asked(request, action, place)
            request.size = 0  # that of another body, by which nothing can be reserved
            request.extras = msgspec.structs.replace(request.extras, cache="off", memory="off", knowledge="off", conversation_id=None)
            answer = await following(request)
            if answer.stream is not None:
                streaming = True
                ended = partial(self._ended, request, action, place, versions, answer, mine)
                answer.stream = Tee(answer.stream, _unseen, ended)
            elif answer.completion is not None:
                answer.edge = await self._keep(request, action, place, versions, answer)
            return answer
        finally:
            if mine and not streaming:
                self._flights.end(place)

    async def _versions(self, action: Action, place: tuple[str, str, str]) -> dict[str, int] | None:
        """Read before the context is. None: nobody knows, so the answer cannot be kept."""
        states = dependencies(action.settings.depends_on, self._settings.states, user=place[1], data=None)
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                return await self._store.versions(place[0], states)
        except (FarthingError, TimeoutError):
            return None

    async def _asked(self, request: Request, action: Action, place: tuple[str, str, str]) -> Json:
        try:
            body = await self._briefing.body(action, place[0], place[1], None)
        except NoContext as error:
            raise UpstreamMalformed(f"the action {action.name!r} cannot be answered now: {error}") from None
        return {**body, "stream": True, "stream_options": {"include_usage": request.include_usage}} if request.stream else body

    async def _keep(
        self, request: Request, action: Action, place: tuple[str, str, str], versions: dict[str, int] | None, answer: Answer
    ) -> EdgeAnswer | None:
        assert answer.completion is not None
        body = said(action, answer.completion.body)
        if body is None and action.settings.answer == "json" and not request.stream:
            raise UpstreamMalformed(f"the model's answer to the action {action.name!r} is not the JSON that it was asked for")
        if body is None or versions is None or size_of(body) > self._settings.max_answer_bytes or answer.checks not in {None, "passed"}:
            return None
        facts = {"model": answer.model or request.model, "versions": versions, "request_id": request.id, "cost": answer.cost_microusd}
        made = edge_answer(action, place[0], place[1], body, now=self._clock(), **facts)  # type: ignore[arg-type]  # by name
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                kept = await self._store.put(made)
        except (FarthingError, TimeoutError):
            self.away += 1
            return None
        self.stale += not kept
        return made if kept else None

    def _ended(
        self,
        request: Request,
        action: Action,
        place: tuple[str, str, str],
        versions: dict[str, int] | None,
        answer: Answer,
        mine: bool,  # noqa: FBT001 - bound by `partial`
        complete: bool,  # noqa: FBT001 - the shape of Tee's callback
    ) -> None:
        """A stream is over: keep what it was. The client has it already and waits for nothing."""
        if not complete or answer.completion is None or len(self._storing) >= _MOST_STORING:
            if mine:
                self._flights.end(place)
            return
        task = asyncio.get_running_loop().create_task(self._store_stream(request, action, place, versions, answer, mine=mine))
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)

    async def _store_stream(
        self, request: Request, action: Action, place: tuple[str, str, str], versions: dict[str, int] | None, answer: Answer, *, mine: bool
    ) -> None:
        try:
            await self._keep(request, action, place, versions, answer)
        finally:
            if mine:
                self._flights.end(place)

    async def close(self) -> None:
        """Let what is being stored be stored: each has its deadline."""
        await asyncio.gather(*self._storing, return_exceptions=True)


def _unseen(chunk: Json) -> None:
    del chunk
