"""The recall stage on stores in process, and what the stages behind it see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from farthing.cipher import Cipher
from farthing.errors import Unavailable
from farthing.inprocess.turns import InProcessTurns
from farthing.memory.conversations import Conversations, Spoken
from farthing.memory.keeping import Keeper
from farthing.memory.recall import Recall
from farthing.memory.vectors import Vectors
from farthing.pipeline.stream import Replayed, replay
from farthing.ports import Encoded
from farthing.settings.memory_recall import RecallSettings
from farthing.testing.replies import completion
from farthing.types import (
    Answer,
    Completion,
    Event,
    Extras,
    Fact,
    Json,
    Lifeline,
    NewFact,
    Operation,
    Principal,
    Profile,
    Request,
    Source,
    new_id,
)

KEY = UUID(int=1)
_MAY = datetime(2026, 5, 1, tzinfo=UTC)


def fact(number: int, key: str, value: Any, **facts: Any) -> Fact:
    """Something that holds of Ann."""
    usual = {"tenant": "acme", "user": "ann", "by": "rule:r", "valid_from": _MAY, "known_from": _MAY}
    return Fact(**{**usual, "id": UUID(int=number), "key": key, "value": value, **facts})


class KnownFacts:
    """Facts to read, and how long that takes. `away`: not at all."""

    def __init__(self, facts: Sequence[Fact] = (), *, wait_s: float = 0.0, away: bool = False) -> None:
        self.facts = tuple(facts)
        self.wait_s = wait_s
        self.away = away

    async def profile(self, tenant: str, user: str) -> Profile | None:
        if self.away:
            raise Unavailable("away")
        await asyncio.sleep(self.wait_s)
        own = tuple(one for one in self.facts if (one.tenant, one.user) == (tenant, user))
        return Profile(tenant=tenant, user=user, facts=own, version=1) if own else None

    async def learn(self, tenant: str, user: str, facts: Sequence[NewFact], *, arrived: datetime) -> Profile:
        raise NotImplementedError

    async def retract(self, tenant: str, user: str, fact: UUID, *, by: str) -> bool:
        raise NotImplementedError

    async def history(self, tenant: str, user: str, *, key: str | None, limit: int) -> list[Fact]:
        raise NotImplementedError

    async def forget(self, tenant: str, user_id: str | None) -> int:
        raise NotImplementedError

    async def prune(self, *, max_history: int) -> int:
        raise NotImplementedError


_TOPICS = ("food", "sport", "work")
_WORDS = {"vegetarian": "food", "eat": "food", "dinner": "food", "tennis": "sport", "run": "sport", "office": "work"}


class Meanings:
    """An embedder for which a text means the first topic that it names."""

    dimensions = 3
    version = "meanings"

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        return [[float(one) for one in self._vector(text)] for text in texts], 0

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [Encoded(vector=self._vector(text), words=b"", spans=()) for text in texts]

    def _vector(self, text: str) -> bytes:
        topic = next((_WORDS[word.strip("?.,:")] for word in text.lower().split() if word.strip("?.,:") in _WORDS), None)
        return bytes(127 if one == topic else 1 for one in _TOPICS)

    async def aclose(self) -> None:
        pass


class House:
    """A worker. `told` is what the bus was told, `seen` what the stages behind were sent. `answers` is what the model says, in turn."""

    def __init__(
        self,
        settings: RecallSettings | None = None,
        facts: KnownFacts | None = None,
        store: InProcessTurns | None = None,
        embedder: Meanings | None = None,
        answers: Sequence[str] = (),
    ) -> None:
        self.settings = settings or RecallSettings()
        self.facts = facts or KnownFacts()
        self.store = store or InProcessTurns()
        self.told: list[Event] = []
        self.seen: list[Request] = []
        self.answers = list(answers)
        vectors = Vectors(embedder, most=100, timeout_s=1.0)
        self.conversations = Conversations(self.store, Cipher(bytes(32)), vectors, self.settings)
        keeper = Keeper(self.conversations, self.told.append, max_turn_bytes=self.settings.max_turn_bytes)
        self.stage = Recall(self.settings, self.facts, self.conversations, vectors, keeper)
        self.before_answer: Callable[[], Any] | None = None

    async def ask(self, *said: str, stream: Any = False, **extras: Any) -> Answer:
        """A request of Ann's with these user messages. Of a stream nothing is read yet."""
        messages: list[Json] = [{"role": "user", "content": text} for text in said]
        return await self.send(request(messages, stream=stream, **extras))

    async def send(self, asked: Request) -> Answer:
        return await self.stage(asked, self._model)

    async def _model(self, asked: Request) -> Answer:
        self.seen.append(asked)
        if self.before_answer is not None:
            await self.before_answer()
        said = self.answers.pop(0) if self.answers else "So be it."
        body = completion(said).json
        if asked.stream:
            return Answer(source=Source.MODEL, model="m", stream=Replayed(replay(body)))
        return Answer(source=Source.MODEL, model="m", completion=Completion(body=body), body=b"")

    @property
    def sent(self) -> list[tuple[Any, Any]]:
        """The messages of the last request as the stages behind saw them."""
        return [(one.get("role"), one.get("content")) for one in self.seen[-1].body["messages"] if isinstance(one, dict)]

    async def said(self, conversation: str = "c1", user: str | None = "ann", tenant: str = "acme") -> list[tuple[str, str]]:
        """What is stored of a conversation."""
        return [(one.turn.role, one.text) for one in await self.spoken(conversation, user, tenant)]

    async def spoken(self, conversation: str = "c1", user: str | None = "ann", tenant: str = "acme") -> list[Spoken]:
        return await self.conversations.of(tenant, user, conversation, limit=100)


def request(
    messages: list[Any], *, stream: Any = False, user: str | None = "ann", tenant: str = "acme", size: int = 0, **extras: Any
) -> Request:
    """Ann's, unless another one is named."""
    return Request(
        id=new_id(),
        principal=Principal(key_id=KEY, tenant=tenant),
        operation=extras.pop("operation", Operation.CHAT),
        body={"model": "m", "messages": messages, **extras.pop("body", {})},
        size=size,
        model="m",
        stream=stream,
        extras=Extras(user=user, **extras),
        started_ns=0,
        lifeline=Lifeline(None),
    )
