"""The recorder, the queue behind it, and what is made of the texts, on the store in process."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.cipher import CannotOpen, Cipher
from farthing.errors import FarthingError, InvalidRequest, Overloaded, Unavailable
from farthing.inprocess.retention import InProcessRetention
from farthing.inprocess.stores import InProcessChanges
from farthing.pipeline.stream import Replayed, replay
from farthing.retention.policies import Policies
from farthing.retention.recorder import Recorder
from farthing.retention.transcript import Sealing, cut
from farthing.retention.writer import TranscriptWriter
from farthing.settings import RetentionSettings
from farthing.testing.retention import policy
from farthing.types import Answer, Extras, Json, Lifeline, NewTranscript, Operation, Principal, Request, Source, StoredTranscript, new_id

BODY = {"messages": [{"role": "user", "content": "Hi"}]}
WHOLE: Json = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello you", "refusal": None}, "logprobs": None, "finish_reason": "stop"}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


class Fickle(InProcessRetention):
    """A store with moods: `fails` is raised instead of storing."""

    fails: Callable[[Sequence[NewTranscript]], FarthingError | None] = staticmethod(lambda _: None)
    batches = 0

    async def put(self, transcripts: Sequence[NewTranscript]) -> int:
        self.batches += 1
        error = self.fails(transcripts)
        if error is not None:
            raise error
        return await super().put(transcripts)


class Bench:
    """A recorder for the tenant `acme`, which wants its texts kept."""

    def __init__(self, *, able: bool = True, **settings: Any) -> None:
        self.store = Fickle(InProcessChanges())
        self.settings = RetentionSettings(**{"flush_interval_s": 0.001, **settings})
        self.sealing = Sealing(Cipher(b"k" * 32), self.settings.max_bytes)
        self.writer = TranscriptWriter(self.store, self.sealing, self.settings)
        self.flushes = 0
        self.policies = Policies(self.store, self._flushed, able=able, refresh_s=60, most=10)
        self.recorder = Recorder(self.policies, self.writer)

    def _flushed(self) -> None:
        self.flushes += 1

    async def turn_on(self) -> None:
        await self.store.set_policy(policy())
        await self.policies.reload()

    def request(self, **facts: Any) -> Request:
        usual: dict[str, Any] = {
            "id": new_id(),
            "principal": Principal(key_id=UUID(int=1), tenant="acme", user="ann"),
            "operation": Operation.CHAT,
            "body": BODY,
            "model": "asked",
            "extras": Extras(),
            "started_ns": time.perf_counter_ns(),
            "lifeline": Lifeline(None),
        }
        return Request(**{**usual, **facts})

    async def read(self, request: Request) -> Any:
        await self.writer.drain()
        stored = await self.store.get(request.id)
        return None if stored is None else self.sealing.open(stored)

    async def ask(self, **facts: Any) -> Request:
        request = self.request(**facts)
        await self.recorder(request, answering(whole()))
        return request


def whole() -> Answer:
    return Answer(source=Source.MODEL, model="used", body=msgspec.json.encode(WHOLE))


def answering(answer: Answer) -> Callable[[Request], Awaitable[Answer]]:
    async def following(request: Request) -> Answer:
        del request
        return answer

    return following


def failing(error: BaseException) -> Callable[[Request], Awaitable[Answer]]:
    async def following(request: Request) -> Answer:
        del request
        raise error

    return following


class Breaking:
    """A stream of two chunks of an answer, and then an error."""

    def __init__(self, error: BaseException) -> None:
        self._chunks = self._generate(error)

    async def _generate(self, error: BaseException) -> AsyncGenerator[Json, None]:
        chunks = replay(WHOLE)
        yield next(chunks)
        yield next(chunks)
        raise error

    def __aiter__(self) -> Breaking:
        return self

    async def __anext__(self) -> Json:
        return await self._chunks.__anext__()

    async def aclose(self) -> None:
        await self._chunks.aclose()


async def test_question_and_answer_are_kept_with_whose_they_are() -> None:
    bench = Bench()
    await bench.turn_on()
    request = await bench.ask()
    assert await bench.read(request) == {"request": BODY, "answer": WHOLE, "error": None}
    stored = await bench.store.get(request.id)
    assert stored is not None
    assert (stored.tenant, stored.user_id, stored.model, stored.source) == ("acme", "ann", "used", "model")
    assert b"Hi" not in stored.payload
    assert b"Hello" not in stored.payload


@pytest.mark.parametrize(
    "facts",
    [
        {"principal": Principal(key_id=UUID(int=1), tenant="rival")},
        {"extras": Extras(store=False)},
        {"body": {**BODY, "store": False}},
    ],
)
async def test_others_and_who_opts_out_are_not_even_queued(facts: dict[str, Any]) -> None:
    bench = Bench()
    await bench.turn_on()
    await bench.ask(**facts)
    assert len(bench.writer) == 0


async def test_who_has_never_heard_from_the_store_keeps_nothing() -> None:
    bench = Bench()
    await bench.store.set_policy(policy())
    await bench.ask()
    assert len(bench.writer) == 0


async def test_without_a_key_nothing_is_kept_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(able=False)
    await bench.turn_on()
    await bench.policies.reload()
    await bench.ask()
    assert len(bench.writer) == 0
    assert [record.message for record in caplog.records].count(
        "tenants want their texts kept, but retention.encryption_key is not set: nothing is kept"
    ) == 1


async def test_a_stream_is_kept_as_the_whole_that_it_was() -> None:
    bench = Bench()
    await bench.turn_on()
    request = bench.request(stream=True)
    answer = Answer(source=Source.EXACT, model="used", stream=Replayed(replay(WHOLE)), usage=WHOLE["usage"])
    found = await bench.recorder(request, answering(answer))
    assert found.stream is not None
    chunks = [chunk async for chunk in found.stream]
    await found.stream.aclose()
    assert len(chunks) > 2
    assert (await bench.read(request))["answer"] == WHOLE


async def test_a_stream_that_broke_is_kept_as_far_as_it_came() -> None:
    bench = Bench()
    await bench.turn_on()
    request = bench.request(stream=True)
    answer = Answer(source=Source.MODEL, model="used", stream=Breaking(Overloaded("full")))
    found = await bench.recorder(request, answering(answer))
    assert found.stream is not None
    with pytest.raises(Overloaded):
        _ = [chunk async for chunk in found.stream]
    await found.stream.aclose()
    kept = await bench.read(request)
    assert kept["error"] == "ended_early"
    assert kept["answer"]["choices"][0]["message"]["content"] == "Hello "
    assert bench.writer.stored == 1


@pytest.mark.parametrize(("error", "code"), [(Overloaded("full"), "overloaded"), (asyncio.CancelledError(), "client_disconnected")])
async def test_a_question_without_an_answer_is_kept_with_the_reason(error: BaseException, code: str) -> None:
    bench = Bench()
    await bench.turn_on()
    request = bench.request()
    with pytest.raises(type(error)):
        await bench.recorder(request, failing(error))
    assert await bench.read(request) == {"request": BODY, "answer": None, "error": code}


async def test_vectors_are_not_kept() -> None:
    bench = Bench()
    await bench.turn_on()
    request = await bench.ask(operation=Operation.EMBEDDINGS, body={"input": "Hi"})
    assert await bench.read(request) == {"request": {"input": "Hi"}, "answer": None, "error": None}


async def test_what_finds_no_room_is_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(max_pending=3)
    await bench.turn_on()
    for _ in range(5):
        await bench.ask()
    assert (len(bench.writer), bench.writer.dropped) == (3, 2)
    assert "max_pending" in caplog.text
    await bench.writer.drain()
    assert (len(bench.writer), bench.writer.stored) == (0, 3)
    bench = Bench(max_pending_bytes=10_000)
    await bench.turn_on()
    for _ in range(9):
        await bench.ask(size=2000)
    assert (len(bench.writer), bench.writer.dropped) == (3, 6)
    await bench.writer.drain()
    for _ in range(3):
        await bench.ask(size=2000)
    assert len(bench.writer) == 3, "room is given back"


async def test_while_the_store_is_away_texts_wait_for_a_while_and_then_go() -> None:
    bench = Bench(max_pending_s=0.05)
    await bench.turn_on()
    bench.store.fails = lambda _: Unavailable("away")
    await bench.ask()
    running = asyncio.create_task(bench.writer.run())
    async with asyncio.timeout(10):
        while bench.writer.dropped < 1:  # noqa: ASYNC110 - the writer tells nobody
            await asyncio.sleep(0.001)
        assert len(bench.writer) == 0
        bench.store.fails = lambda _: None
        request = await bench.ask()
        while bench.writer.stored < 1:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.001)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert await bench.store.get(request.id) is not None


async def test_one_that_cannot_be_stored_or_encoded_does_not_hold_up_the_others() -> None:
    bench = Bench()
    await bench.turn_on()
    bad = bench.request()
    refuses = lambda batch: InvalidRequest("no") if any(one.request_id == bad.id for one in batch) else None  # noqa: E731
    bench.store.fails = refuses
    good = [await bench.ask()]
    await bench.recorder(bad, answering(whole()))
    await bench.ask(body={"messages": object()})
    good.append(await bench.ask())
    await bench.writer.drain()
    assert [await bench.store.get(request.id) is not None for request in good] == [True, True]
    assert (bench.writer.stored, bench.writer.dropped, len(bench.writer)) == (2, 2, 0)


async def test_many_are_written_in_batches() -> None:
    bench = Bench()
    await bench.turn_on()
    for _ in range(250):
        await bench.ask()
    await bench.writer.drain()
    assert (bench.writer.stored, bench.store.batches) == (250, 3)


def _stored(sealing: Sealing, request: Json, answer: bytes | None, tenant: str = "acme") -> StoredTranscript:
    request_id = new_id()
    payload = sealing.seal(tenant, request_id, request, answer, None)
    facts = {"request_id": request_id, "tenant": tenant, "model": "m", "source": "model", "payload": payload}
    return StoredTranscript(**facts, at=policy().set_at, expires_at=policy().set_at)  # type: ignore[arg-type]  # named above


@given(st.text(), st.text(), st.integers(min_value=1024, max_value=4096))
def test_a_transcript_holds_what_fits_and_says_what_does_not(asked: str, said: str, most: int) -> None:
    sealing = Sealing(Cipher(b"k" * 32), most)
    answer = msgspec.json.encode({"said": said})
    found = sealing.open(_stored(sealing, {"asked": asked}, answer))
    for name, text in (("request", {"asked": asked}), ("answer", {"said": said})):
        encoded = msgspec.json.encode(text)
        assert found[name] == text or (
            found[name]["size"] == len(encoded) > most // 2 and encoded.decode().startswith(found[name]["beginning"])
        )


def test_a_long_answer_leaves_a_short_question_whole_and_is_cut_between_characters() -> None:
    sealing = Sealing(Cipher(b"k" * 32), 1024)
    found = sealing.open(_stored(sealing, BODY, msgspec.json.encode({"said": "\u00e9" * 2000})))
    assert found["request"] == BODY
    assert found["answer"]["size"] == 4011
    assert 800 < len(found["answer"]["beginning"].encode()) <= 1024
    assert cut(b'"\xc3\xa9"', 2) == msgspec.json.encode({"cut": True, "size": 4, "beginning": '"'})


def test_only_the_right_key_opens_it_and_only_for_its_tenant_and_request() -> None:
    sealing = Sealing(Cipher(b"k" * 32), 1024)
    stored = _stored(sealing, BODY, None)
    assert Sealing(Cipher(b"n" * 32, [b"k" * 32]), 1024).open(stored)["request"] == BODY
    for wrong in (msgspec.structs.replace(stored, tenant="rival"), msgspec.structs.replace(stored, request_id=new_id())):
        with pytest.raises(CannotOpen):
            sealing.open(wrong)
    with pytest.raises(CannotOpen, match="not among ours"):
        Sealing(Cipher(b"n" * 32), 1024).open(stored)
    with pytest.raises(CannotOpen):
        sealing.open(msgspec.structs.replace(stored, payload=base64.b64encode(stored.payload)))
