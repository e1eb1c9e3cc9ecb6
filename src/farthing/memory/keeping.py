"""What becomes of a turn when its answer is there: stored where its conversation is kept here, told to the bus where memory is on.

The user's turn and the answer are stored together, when the answer has ended whole, so that those of two requests at the same time do not
run together. Of a stream that the client left, the user's turn alone is stored; of a request that failed, nothing: it may come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec
from msgspec.structs import replace

from farthing.memory.conversations import Conversations, Spoken
from farthing.memory.injection import cut
from farthing.memory.wanted import Wanted
from farthing.pipeline.message import text_of
from farthing.pipeline.stream import Fold
from farthing.types import Answer, ChunkStream, Event, Json, Request, time_of, utc_now

Tell = Callable[[Event], None]
"""See `ports.Publisher.tell`."""

_TYPE = "farthing.chat.turn"
_SOURCE = "farthing/gateway"


class Under(msgspec.Struct, frozen=True, kw_only=True):
    """Where in its conversation a request is: behind the turn `after` (None: at its beginning).

    `retried` is the turn that it repeats: the last one, a user's in the same words, that no answer followed.
    """

    after: UUID | None = None
    retried: UUID | None = None

    @classmethod
    def of(cls, wanted: Wanted, talk: Sequence[Spoken]) -> Under:
        """By the turns so far."""
        if not talk:
            return cls()
        last = talk[-1]
        if last.turn.role == "user" and last.text == wanted.question:
            return cls(after=last.turn.id, retried=last.turn.id)
        return cls(after=last.turn.id)

    def before(self, talk: Sequence[Spoken]) -> list[Spoken]:
        """What of a conversation lies before the request."""
        return [one for one in talk if one.turn.id != self.retried]


class Keeper:
    """`tell` takes events for the bus; None: there is no bus."""

    def __init__(self, conversations: Conversations, tell: Tell | None, *, max_turn_bytes: int) -> None:
        self._conversations = conversations
        self._tell = tell
        self._max_turn_bytes = max_turn_bytes

    async def watch(self, request: Request, wanted: Wanted, under: Under, answer: Answer) -> Answer:
        """Tell of the user's turn, and keep it with its answer when that has ended."""
        self._tell_of(request, wanted)
        if not wanted.remembered:
            return answer
        if answer.stream is not None:
            answer.stream = _Kept(answer.stream, self, request, wanted, under)
        else:
            await self.keep(request, wanted, under, _text_of(_body(answer)))
        return answer

    async def keep(self, request: Request, wanted: Wanted, under: Under, said: str) -> None:
        """Store the turn and what was answered; waits a bounded time."""
        turns = self._turns(request, wanted, under, said)
        try:
            await self._conversations.keep(turns)
        except asyncio.CancelledError:
            self._conversations.later(turns)  # whether they are there already or not: they have ids
            raise

    def left(self, request: Request, wanted: Wanted, under: Under) -> None:
        """Store the user's turn alone."""
        self._conversations.later(self._turns(request, wanted, under, ""))

    def _turns(self, request: Request, wanted: Wanted, under: Under, said: str) -> list[Spoken]:
        whose = (wanted.tenant, wanted.user, wanted.conversation or "")
        at = time_of(request.id)
        asked = self._conversations.turn(whose, under.after, "user", cut(wanted.question, self._max_turn_bytes), at)
        if under.retried is not None:
            asked = replace(asked, turn=replace(asked.turn, id=under.retried))
        if not said.strip():
            return [asked]
        return [asked, self._conversations.turn(whose, asked.turn.id, "assistant", cut(said, self._max_turn_bytes), at)]

    def _tell_of(self, request: Request, wanted: Wanted) -> None:
        """Only what the user has said, and never what was recalled or answered: from that nothing is to be learnt."""
        if self._tell is None or wanted.mode == "off" or not wanted.keeps or not wanted.question.strip():
            return
        text = cut(wanted.question, self._max_turn_bytes)
        data = {
            "text": text,
            "conversation": wanted.conversation,
            "role": "user",
            "request_id": str(request.id),
            "key_id": str(request.principal.key_id),
        }
        self._tell(
            Event(
                id=str(request.id),
                source=_SOURCE,
                type=_TYPE,
                tenant=wanted.tenant,
                subject=wanted.conversation or wanted.user,
                user=wanted.user,
                time=time_of(request.id),
                data=data,
                received_at=utc_now(),
            )
        )


class _Kept:
    """A stream whose turn is stored before its end is told. See `types.ChunkStream`."""

    def __init__(self, stream: ChunkStream, keeper: Keeper, request: Request, wanted: Wanted, under: Under) -> None:
        self._stream = stream
        self._keeper = keeper
        self._about = (request, wanted, under)
        self._fold = Fold()
        self._ended = False

    def __aiter__(self) -> _Kept:
        return self

    async def __anext__(self) -> Json:
        try:
            chunk = await self._stream.__anext__()
        except StopAsyncIteration:
            if not self._ended:
                self._ended = True
                await self._keeper.keep(*self._about, _text_of(self._fold.body(None)))
            raise
        except BaseException:
            self._leave()
            raise
        self._fold.add(chunk)
        return chunk

    def _leave(self) -> None:
        if not self._ended:
            self._ended = True
            self._keeper.left(*self._about)

    async def aclose(self) -> None:
        """Close what is behind. What had not come to its end by now was left."""
        try:
            await self._stream.aclose()
        finally:
            self._leave()


def _body(answer: Answer) -> Json:
    if answer.completion is not None:
        return answer.completion.body
    found: Json = msgspec.json.decode(answer.body or b"{}")
    return found


def _text_of(body: Json) -> str:
    """The text of the first choice; empty where it only calls tools."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    message = first.get("message") if isinstance(first, dict) else None
    return text_of(message.get("content")) if isinstance(message, dict) else ""
