"""Turns that are kept: by tenant, sealed, bounded, and not lost while the store is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from farthing.cipher import Cipher
from farthing.errors import InvalidRequest, PreviousResponseNotFound, Unavailable
from farthing.http.responses.conversations import Conversations, Turn
from farthing.http.responses.items import response_id, response_name
from farthing.inprocess.responses import InProcessResponses
from farthing.settings import ResponsesSettings
from farthing.types import Json, StoredResponse, new_id, utc_now

KEY = b"k" * 32


class Store(InProcessResponses):
    """A store that can be away, or slow, or refuse some."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.open = asyncio.Event()
        self.open.set()
        self.poison: set[UUID] = set()
        self.batches: list[int] = []
        self.renewed: list[UUID] = []

    async def _reached(self) -> None:
        await self.open.wait()
        if self.away:
            raise Unavailable("away")

    async def put(self, turns: Sequence[StoredResponse]) -> None:
        await self._reached()
        self.batches.append(len(turns))
        if any(turn.id in self.poison for turn in turns):
            raise InvalidRequest("cannot be stored")
        await super().put(turns)

    async def chain(self, tenant: str, turn_id: UUID, *, most: int, most_bytes: int) -> list[StoredResponse]:
        await self._reached()
        return await super().chain(tenant, turn_id, most=most, most_bytes=most_bytes)

    async def delete(self, tenant: str, turn_id: UUID) -> bool:
        await self._reached()
        return await super().delete(tenant, turn_id)

    async def renew(self, tenant: str, turn_ids: Sequence[UUID], expires_at: datetime) -> None:
        self.renewed += turn_ids
        await super().renew(tenant, turn_ids, expires_at)

    @property
    def held(self) -> dict[tuple[str, UUID], StoredResponse]:
        return self._turns


@asynccontextmanager
async def worker(store: Store, key: bytes = KEY, **settings: Any) -> AsyncIterator[Conversations]:
    """The conversations of one worker, with its writer under way."""
    bounds = ResponsesSettings.model_validate({"write_timeout_s": 0.05, "read_timeout_s": 0.05, **settings})
    conversations = Conversations(store, Cipher(key), bounds)
    writing = asyncio.create_task(conversations.run())
    try:
        yield conversations
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


def turn(text: str, previous: str | None = None) -> Turn:
    """A question and its echo."""
    items = [{"id": f"msg_{text}", "type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}]
    return Turn(response={"id": response_name(new_id()), "previous_response_id": previous, "output": [{"text": text}]}, items=items)


async def talk(conversations: Conversations, *texts: str, tenant: str = "acme") -> list[str]:
    """Keep a conversation. The ids of its responses."""
    names: list[str] = []
    for text in texts:
        one = turn(text, names[-1] if names else None)
        await conversations.keep(tenant, None, one)
        names.append(one.response["id"])
    return names


def texts_of(turns: list[Turn]) -> list[str]:
    return [one.response["output"][0]["text"] for one in turns]


def uuid_of(name: str) -> UUID:
    found = response_id(name)
    assert found is not None
    return found


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is looked at tells nobody
            await asyncio.sleep(0.005)


async def test_a_conversation_is_found_by_any_worker_as_soon_as_it_is_kept() -> None:
    store = Store()
    async with worker(store) as here, worker(store) as there:
        first = turn("one")
        assert await here.keep("acme", "ann", first) == "database"
        second = turn("two", first.response["id"])
        assert await there.keep("acme", "ann", second) == "database"
        assert texts_of(await here.history("acme", second.response["id"])) == ["one", "two"]
        assert (await there.history("acme", first.response["id"]))[0].items == first.items
        assert {stored.user_id for stored in store.held.values()} == {"ann"}
        assert here.pending == there.pending == 0


async def test_another_tenant_finds_nothing_and_deletes_nothing() -> None:
    async with worker(Store()) as conversations:
        (name,) = await talk(conversations, "secret")
        with pytest.raises(PreviousResponseNotFound):
            await conversations.history("rival", name)
        assert await conversations.find("rival", uuid_of(name)) is None
        assert not await conversations.delete("rival", uuid_of(name))
        assert await conversations.find("acme", uuid_of(name)) is not None


async def test_what_is_stored_is_sealed_and_bound_to_its_owner_and_place() -> None:
    store = Store()
    async with worker(store) as conversations:
        one, two = await talk(conversations, "canary-secret", "other")
        assert b"canary" not in b"".join(stored.payload for stored in store.held.values())
        first, second = uuid_of(one), uuid_of(two)
        swapped = msgspec.structs.replace(store.held["acme", first], payload=store.held["acme", second].payload)
        store.held["acme", first] = swapped
        assert await conversations.find("acme", first) is None
        store.held["rival", second] = msgspec.structs.replace(store.held["acme", second], tenant="rival")
        assert await conversations.find("rival", second) is None


async def test_a_turn_under_a_lost_key_counts_as_absent_and_the_log_names_the_key_only(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    async with worker(store) as before, worker(store, b"o" * 32) as after:
        (name,) = await talk(before, "canary")
        with caplog.at_level(logging.WARNING), pytest.raises(PreviousResponseNotFound):
            await after.history("acme", name)
    assert "not among ours" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("name", ["", "resp_1", "resp_" + "0" * 32, "resp_" + "Z" * 32, "x" * 100_000, "resp_é", "../../etc"])
async def test_an_unknown_id_is_not_found_in_openais_words(name: str) -> None:
    async with worker(Store()) as conversations:
        with pytest.raises(PreviousResponseNotFound) as caught:
            await conversations.history("acme", name)
    status, error = caught.value.wire()
    assert (status, error["code"], error["param"]) == (400, "previous_response_not_found", "previous_response_id")
    assert len(str(error["message"])) < 300


async def test_an_unreadable_id_costs_no_question_to_the_store() -> None:
    store = Store()
    store.away = True
    async with worker(store) as conversations:
        with pytest.raises(PreviousResponseNotFound):
            await conversations.history("acme", "resp_nonsense")


async def test_a_conversation_whose_earlier_turn_is_gone_says_which() -> None:
    async with worker(Store()) as conversations:
        names = await talk(conversations, "one", "two", "three")
        assert await conversations.delete("acme", uuid_of(names[1]))
        assert not await conversations.delete("acme", uuid_of(names[1]))
        with pytest.raises(PreviousResponseNotFound, match=names[1]):
            await conversations.history("acme", names[2])
        assert texts_of(await conversations.history("acme", names[0])) == ["one"]


async def test_conversations_are_bounded_in_turns_and_bytes() -> None:
    store = Store()
    async with worker(store, max_turns=3) as conversations:
        names = await talk(conversations, "1", "2", "3", "4")
        assert texts_of(await conversations.history("acme", names[2])) == ["1", "2", "3"]
        with pytest.raises(InvalidRequest, match="3 turns"):
            await conversations.history("acme", names[3])
    async with worker(store, max_conversation_bytes=500) as conversations:
        assert texts_of(await conversations.history("acme", names[0])) == ["1"]
        with pytest.raises(InvalidRequest, match="500 bytes"):
            await conversations.history("acme", names[3])


async def test_a_turn_that_is_too_large_is_not_kept_and_says_so() -> None:
    store = Store()
    async with worker(store, max_turn_bytes=1000) as conversations:
        large = turn("x" * 1000)
        assert await conversations.keep("acme", None, large) == "no"
        assert store.held == {}
        with pytest.raises(PreviousResponseNotFound):
            await conversations.history("acme", large.response["id"])


async def test_while_the_store_is_away_the_worker_remembers_and_writes_later() -> None:
    store = Store()
    async with worker(store) as here, worker(store) as there:
        (first,) = await talk(here, "before")
        store.away = True
        lonely = turn("meanwhile")
        assert await here.keep("acme", None, lonely) == "memory"
        assert await here.keep("acme", None, turn("at once")) == "memory"
        assert texts_of(await here.history("acme", lonely.response["id"])) == ["meanwhile"]
        assert await here.find("acme", uuid_of(lonely.response["id"])) is not None
        for elsewhere, name in ((there, lonely.response["id"]), (here, first)):
            with pytest.raises(Unavailable) as caught:
                await elsewhere.history("acme", name)
            assert caught.value.retry is True
            assert caught.value.retry_after_s is not None
        store.away = False
        await until(lambda: here.pending == 0)
        assert texts_of(await there.history("acme", lonely.response["id"])) == ["meanwhile"]
        assert await here.keep("acme", None, turn("after")) == "database"


async def test_a_conversation_may_lie_partly_in_memory() -> None:
    store = Store()
    async with worker(store) as conversations:
        (first,) = await talk(conversations, "stored")
        store.open.clear()
        second, third = turn("held", first), turn("held too")
        third.response["previous_response_id"] = second.response["id"]
        assert await conversations.keep("acme", None, second) == "memory"
        assert await conversations.keep("acme", None, third) == "memory"
        reading = asyncio.create_task(conversations.history("acme", third.response["id"]))
        await asyncio.sleep(0)
        store.open.set()
        assert texts_of(await reading) == ["stored", "held", "held too"]


async def test_a_slow_store_delays_an_answer_by_the_bound_only() -> None:
    store = Store()
    async with worker(store) as conversations:
        store.open.clear()
        assert await conversations.keep("acme", None, turn("slow")) == "memory"
        with pytest.raises(Unavailable):
            await conversations.find("acme", new_id())
        with pytest.raises(Unavailable):
            await conversations.delete("acme", new_id())
        store.open.set()
        await until(lambda: conversations.pending == 0)
        assert len(store.held) == 1


async def test_what_is_deleted_before_it_is_written_stays_deleted() -> None:
    store = Store()
    async with worker(store) as conversations:
        store.away = True
        (name,) = await talk(conversations, "regretted")
        assert await conversations.delete("acme", uuid_of(name))
        store.away = False
        await asyncio.sleep(0.3)
        assert store.held == {}
        assert await conversations.find("acme", uuid_of(name)) is None


async def test_what_waits_for_the_store_is_bounded_and_the_oldest_go(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.away = True
    async with worker(store, max_pending_turns=3) as conversations:
        names = [(await talk(conversations, str(number)))[0] for number in range(5)]
        assert (conversations.pending, conversations.dropped) == (3, 2)
        store.away = False
        await until(lambda: conversations.pending == 0)
        assert {response_name(turn_id) for _, turn_id in store.held} == set(names[2:])
    async with worker(store, max_pending_bytes=1200) as conversations:
        store.away = True
        for number in range(9):
            await talk(conversations, str(number))
        assert 1 <= conversations.pending <= 5
        assert conversations.dropped == 9 - conversations.pending
    assert "max_pending" in caplog.text


async def test_turns_that_come_together_are_written_together() -> None:
    store = Store()
    async with worker(store, write_timeout_s=5) as conversations:
        store.open.clear()
        asked = [asyncio.create_task(conversations.keep("acme", None, turn(str(number)))) for number in range(150)]
        await asyncio.sleep(0.01)
        store.open.set()
        assert set(await asyncio.gather(*asked)) == {"database"}
    assert sum(store.batches) == 150
    assert len(store.batches) <= 4


async def test_a_turn_that_cannot_be_stored_takes_no_other_down() -> None:
    store = Store()
    async with worker(store) as conversations:
        bad, good = turn("bad"), turn("good")
        store.poison = {uuid_of(bad.response["id"])}
        kept = tuple(await asyncio.gather(conversations.keep("acme", None, bad), conversations.keep("acme", None, good)))
        assert kept == ("no", "database")
        assert (conversations.pending, conversations.dropped) == (0, 1)


async def test_a_conversation_that_goes_on_lives_on() -> None:
    store = Store()
    async with worker(store, ttl_s=100) as conversations:
        names = await talk(conversations, "one", "two")
        await conversations.history("acme", names[1])
        assert store.renewed == []
        first = uuid_of(names[0])
        aged = msgspec.structs.replace(
            store.held["acme", first], expires_at=datetime.fromtimestamp(utc_now().timestamp() + 10, utc_now().tzinfo)
        )
        store.held["acme", first] = aged
        await conversations.history("acme", names[1])
        assert store.renewed == [first]
        assert store.held["acme", first].expires_at > aged.expires_at


async def test_nothing_is_kept_where_keeping_is_off() -> None:
    async with worker(Store(), enabled=False) as conversations:
        assert not conversations.enabled
        with pytest.raises(PreviousResponseNotFound):
            await conversations.history("acme", response_name(new_id()))


async def test_the_end_writes_what_waits() -> None:
    store = Store()
    store.away = True
    async with worker(store) as conversations:
        await talk(conversations, "last words")
    with pytest.raises(Unavailable):
        await conversations.drain()
    store.away = False
    await conversations.drain()
    assert (conversations.pending, len(store.held)) == (0, 1)


async def test_a_payload_of_another_version_counts_as_absent() -> None:
    store = Store()
    async with worker(store) as conversations:
        (name,) = await talk(conversations, "x")
        found = uuid_of(name)
        odd: Json = {"something": "else"}
        sealed = Cipher(KEY).seal(msgspec.json.encode(odd), b"response\0acme\0" + found.bytes)
        store.held["acme", found] = msgspec.structs.replace(store.held["acme", found], payload=sealed)
        assert await conversations.find("acme", found) is None
