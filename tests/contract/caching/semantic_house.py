"""Account → exact → semantic → dispatch with the real embedder and the in-process stores, over a provider that answers as it is told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Self
from uuid import UUID

import msgspec

from farthing.app_caches import Caches
from farthing.app_stores import Stores
from farthing.background import Background
from farthing.cipher import Cipher
from farthing.errors import Unavailable
from farthing.flow import Parts, errand_flow, request_flow
from farthing.inprocess.cache_records import InProcessCacheRecords
from farthing.inprocess.questions import InProcessQuestions
from farthing.inprocess.stores import InProcessAnswers, InProcessChanges
from farthing.pipeline.stream import replay
from farthing.ports import Call, Embedder, Encoded
from farthing.prompts.stage import Prompts
from farthing.providers.local.embedder import OnnxEmbedder
from farthing.providers.local.weights import MINILM, locate, locate_tokenizer
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model
from farthing.routing.dispatch import Dispatch
from farthing.settings import Settings
from farthing.spend.account import Account
from farthing.spend.calls import ModelCalls
from farthing.spend.meter import LedgerMeter
from farthing.testing.purse import OpenPurse
from farthing.types import (
    DEEP,
    Completion,
    Extras,
    Json,
    LedgerEntry,
    Lifeline,
    Mode,
    Neighbour,
    Operation,
    Price,
    Principal,
    Question,
    Request,
    Verdict,
    new_id,
)

PRICE = Price(input=1_000_000, output=1_000_000, source="settings")
"""A model's, in micro-dollars per million tokens."""


def minilm() -> OnnxEmbedder:
    """The embedder that comes with Farthing."""
    return OnnxEmbedder(model=locate(MINILM), tokenizer=locate_tokenizer(MINILM))


class Oracle:
    """Answers each prompt with what `answers` says, else with an echo of it. `judge` is asked about pairs."""

    name = kind = "oracle"
    open_connections = 0

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.opinion = "yes"
        self.asked: list[str] = []
        self.judged: list[str] = []

    async def healthy(self) -> bool:
        return True

    async def chat(self, call: Call) -> Completion:
        prompt = call.body["messages"][-1]["content"]
        if call.upstream_model == "judge":
            self.judged.append(prompt)
            text = self.opinion
        else:
            self.asked.append(prompt)
            text = self.answers.get(prompt, f"About {prompt}")
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}
        head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "m"}
        return Completion(body={**head, "choices": [choice], "usage": usage})

    async def embed(self, call: Call) -> Completion:
        raise NotImplementedError

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        whole = (await self.chat(call)).body
        for chunk in replay(whole):
            yield chunk, None
        yield None, whole["usage"]

    async def aclose(self) -> None:
        pass


class Moody(InProcessQuestions):
    """A store of questions that can be away or slow."""

    mood = "well"

    async def search(self, tenant: str, partition: bytes, vector: bytes, *, most: int) -> list[Neighbour]:
        await self._feel()
        return await super().search(tenant, partition, vector, most=most)

    async def put(self, questions: Sequence[Question]) -> None:
        await self._feel()
        await super().put(questions)

    async def latest(self, limit: int) -> list[Question]:
        await self._feel()
        return await super().latest(limit)

    async def _feel(self) -> None:
        if self.mood == "away":
            raise Unavailable("away")
        if self.mood == "slow":
            await asyncio.Event().wait()


class Slow:
    """An embedder that takes its time."""

    def __init__(self, embedder: Embedder) -> None:
        self.dimensions, self.version = embedder.dimensions, embedder.version
        self.gate = asyncio.Event()
        self._embedder = embedder

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        await self.gate.wait()
        return await self._embedder.encode(texts)

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        return await self._embedder.embed(texts)

    async def aclose(self) -> None:
        pass


class World:
    """What all workers share."""

    def __init__(self) -> None:
        self.changes = InProcessChanges()
        self.cipher = Cipher(bytes(32))
        self.questions = Moody(self.changes)
        self.answers = InProcessAnswers(self.changes)
        self.records = InProcessCacheRecords(self.questions, self.changes)


class SemanticHouse:
    """One worker, driven as the door drives it. `settings` are those of `cache.semantic`."""

    def __init__(self, embedder: Embedder, world: World | None = None, *, namespaces: Json | None = None, **settings: Any) -> None:
        self.world = world or World()
        self.oracle = Oracle()
        self.ledger: list[LedgerEntry] = []
        cache = {"semantic": {"shadow": {"share": 0}, **settings}, "namespaces": namespaces or {}}
        models = {name: {"provider": "p", "upstream_model": name} for name in ("fast", "judge")}
        providers = {"p": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}}
        self.settings = Settings.model_validate({"local": {"enabled": False}, "cache": cache, "models": models, "providers": providers})
        world_stores: Any = {"answers": self.world.answers, "questions": self.world.questions, "records": self.world.records}
        unused: Any = dict.fromkeys(Stores.__struct_fields__)
        stores = Stores(**{**unused, **world_stores, "changes": self.world.changes})
        self.caches = Caches(self.settings, stores, embedder, self.world.cipher, shared=True)
        meter = LedgerMeter(self, [], anonymous_per_minute=0)
        catalogue = Catalogue([self._model(name) for name in ("fast", "judge")], random.Random(1))  # noqa: S311 - nothing secret
        parts = Parts(
            mode=None,
            prompt=Prompts({}),
            route=None,
            account=Account(meter),
            admission=_let_in,  # type: ignore[arg-type]  # limits are not what is tested here
            recorder=_let_in,  # type: ignore[arg-type]  # nor is retention
            edge=None,
            memory=None,
            exact=self.caches.exact,
            semantic=self.caches.semantic,
            calls=ModelCalls(most=100, max_queue=10, max_wait_s=1),
            dispatch=Dispatch(catalogue, meter, OpenPurse(), lambda _: None),
        )
        self.caches.errands.begin(errand_flow(parts))
        self._flow = request_flow(parts)
        self._background = Background()
        self._listening: asyncio.Task[None] | None = None

    def _model(self, name: str) -> Model:
        cooldown = Cooldown(1000, 1.0, time.monotonic)
        deployment = Deployment(model=name, provider=self.oracle, upstream_model=name, weight=1, price=PRICE, retries=0, cooldown=cooldown)
        return Model(name=name, operation=Operation.CHAT, deployments=(deployment,))

    def record(self, entry: LedgerEntry) -> None:
        self.ledger.append(entry)

    async def __aenter__(self) -> Self:
        self.caches.start(self._background)
        self._listening = asyncio.create_task(self._listen())
        await self.until(lambda: self.caches.shared.asked)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._background.stop()
        await self.caches.aclose()

    async def _listen(self) -> None:
        async for channel, payload in self.world.changes.watch():
            if channel in {"answers", "questions", "verdicts"}:
                await self.caches.heard(channel, payload)

    def request(
        self, text: str, *, tenant: str = "acme", stream: bool = False, before: Sequence[Json] = (), mode: Mode = DEEP, **extras: Any
    ) -> Request:
        """A chat request as a door makes it."""
        return Request(
            id=new_id(),
            principal=Principal(key_id=UUID(int=1), tenant=tenant),
            operation=Operation.CHAT,
            body={"messages": [*before, {"role": "user", "content": text}]},
            model="fast",
            fingerprint="f",
            extras=Extras(**extras),
            stream=stream,
            mode=mode,
            started_ns=time.perf_counter_ns(),
            lifeline=Lifeline(asyncio.current_task()),
        )

    async def ask(self, text: str, **more: Any) -> tuple[str, str]:
        """What answered, and what it said."""
        return await self.send(self.request(text, **more))

    async def send(self, request: Request) -> tuple[str, str]:
        """The same for a request that was made before."""
        answer = await self._flow(request)
        if answer.stream is None:
            assert answer.body is not None
            return answer.source.value, msgspec.json.decode(answer.body)["choices"][0]["message"]["content"]
        try:
            chunks = [chunk async for chunk in answer.stream]
        finally:
            await answer.stream.aclose()
        return answer.source.value, "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])

    @property
    def parts(self) -> Any:
        """What the semantic cache is made of."""
        return self.caches._semantics

    @property
    def known(self) -> int:
        """Questions in the worker's memory."""
        return int(self.parts.memory.count)

    async def verdicts(self, count: int) -> list[Verdict]:
        """The verdicts, once there are so many."""
        async with asyncio.timeout(10):
            while len(found := await self.world.records.verdicts(100)) < count:  # noqa: ASYNC110 - a store; it does not tell
                await asyncio.sleep(0.002)
        return found

    async def hits_until_looked_at(self, text: str) -> None:
        """Ask until chance has chosen a hit to be also sent to the model."""
        for _ in range(100):
            assert (await self.ask(text))[0] == "semantic"
            if self.parts.looks.shadowed:
                return
        raise AssertionError("no hit was looked at")

    async def settle(self, known: int | None = None) -> None:
        """Until all that is to be written is written; and until the store has so many questions, if that is said."""
        await self.until(lambda: self.parts.bookkeeper.pending == 0)
        if known is not None:
            await self.until(lambda: self.world.questions.count == known)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - many things can make it true
                await asyncio.sleep(0.002)


async def _let_in(request: Request, following: Any) -> Any:
    return await following(request)
