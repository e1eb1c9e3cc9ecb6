"""The door for events, on a bus in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from farthing.errors import FarthingError, Overloaded, RateLimited, Unavailable
from farthing.http.asgi import Message, Receive, Scope, Send
from farthing.http.events import EventDoor
from farthing.http.server import openai_refusal
from farthing.pipeline.stage import Next
from farthing.settings import EventDoorSettings, ServerSettings
from farthing.types import Answer, Event, Extras, Lifeline, Operation, Principal, Request, new_id


class Bus:
    """A publisher that stores each event once. `room`: how many events it takes before it is away; `gate` holds it up."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], Event] = {}
        self.calls: list[int] = []
        self.room = 1_000_000
        self.gate = asyncio.Event()
        self.gate.set()

    async def publish(self, events: Sequence[Event]) -> list[bool]:
        await self.gate.wait()
        self.calls.append(len(events))
        if len(self.stored) + len(events) > self.room:
            raise Unavailable("The database is away.", retry_after_s=2.0)
        new = []
        for event in events:
            name = (event.source, event.id)
            new.append(name not in self.stored)
            self.stored.setdefault(name, event)
        return new

    def tell(self, event: Event) -> None:
        raise NotImplementedError


class House:
    def __init__(self, **settings: Any) -> None:
        self.bus = Bus()
        self.limited: FarthingError | None = None
        self.door = EventDoor(self.bus, self._limit, EventDoorSettings.model_validate(settings), ServerSettings())
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self._asgi), base_url="http://farthing")

    async def _limit(self, request: Request, following: Next) -> Answer:
        if self.limited is not None:
            raise self.limited
        return await following(request)

    async def _asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What the gateway does around a door."""
        request = Request(
            id=new_id(),
            principal=Principal(key_id=new_id(), tenant="acme"),
            operation=Operation.CHAT,
            body={},
            model="",
            extras=Extras(),
            started_ns=0,
            lifeline=Lifeline(None),
        )
        try:
            await self.door.post(request, scope, receive, send)
        except FarthingError as error:
            status, headers, body = openai_refusal(request, error)
            await send({"type": "http.response.start", "status": status, "headers": list(headers)})
            last: Message = {"type": "http.response.body", "body": body}
            await send(last)

    async def post(self, body: object) -> httpx.Response:
        return await self.client.post("/v1/events", json=body)


def events(count: int, **facts: Any) -> list[dict[str, Any]]:
    return [{"specversion": "1.0", "id": f"e{number}", "source": "app", "type": "x", **facts} for number in range(count)]


async def test_a_large_batch_is_stored_in_chunks() -> None:
    house = House()
    answer = await house.post(events(2_500))
    assert (answer.status_code, answer.json()["accepted"]) == (202, 2_500)
    assert house.bus.calls == [1000, 1000, 500]
    assert [event.id for event in house.bus.stored.values()] == [f"e{number}" for number in range(2_500)]


async def test_when_the_bus_goes_away_in_the_middle_the_caller_sends_all_again_and_nothing_is_lost_or_doubled() -> None:
    house = House()
    house.bus.room = 1_500
    answer = await house.post(events(2_500))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "first 1000 events are stored" in answer.json()["error"]["message"]
    house.bus.room = 10_000
    again = (await house.post(events(2_500))).json()
    assert (again["accepted"], again["duplicates"]) == (1_500, 1_000)
    assert len(house.bus.stored) == 2_500


async def test_when_the_bus_is_away_nothing_is_stored_and_the_caller_is_told_when_to_come_again() -> None:
    house = House()
    house.bus.room = 0
    answer = await house.post(events(1))
    assert (answer.status_code, answer.json()["error"]["message"], answer.headers["retry-after"]) == (503, "The database is away.", "2")
    assert house.door.taken == 0


async def test_more_posts_at_the_same_time_than_a_worker_may_hold_are_refused() -> None:
    house = House(max_posts=2)
    house.bus.gate.clear()
    under_way = [asyncio.create_task(house.post(events(1))) for _ in range(2)]
    while house.door.under_way < 2:  # noqa: ASYNC110 - a handful of turns of the loop
        await asyncio.sleep(0)
    refused = await house.post(events(1))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "events.door.max_posts" in refused.json()["error"]["message"]
    house.bus.gate.set()
    assert [answer.status_code for answer in await asyncio.gather(*under_way)] == [202, 202]
    assert (await house.post(events(1))).status_code == 202


@pytest.mark.parametrize("error", [RateLimited("slow down", retry_after_s=3.0), Overloaded("full", retry_after_s=3.0)])
async def test_a_key_over_its_limit_stores_nothing(error: FarthingError) -> None:
    house = House()
    house.limited = error
    answer = await house.post(events(5))
    assert (answer.status_code, answer.headers["retry-after"]) == (error.status, "3")
    assert house.bus.stored == {}
    house.limited = None
    assert (await house.post(events(5))).status_code == 202


async def test_what_was_refused_is_listed_up_to_a_bound_and_counted_beyond() -> None:
    house = House()
    answer = await house.post(events(3_000, type=""))
    said = answer.json()
    assert (answer.status_code, said["rejected_total"], len(said["rejected"])) == (400, 3_000, 1_000)
    assert said["error"] == said["rejected"][0]["error"]
    assert house.bus.calls == []
    mixed = (await house.post([*events(2), *events(2, type=""), *events(1)])).json()
    assert (mixed["accepted"], mixed["duplicates"], [one["index"] for one in mixed["rejected"]]) == (2, 1, [2, 3])
    assert (house.door.taken, house.door.known, house.door.refused) == (2, 1, 3_002)


async def test_a_body_that_is_too_long_is_not_parsed() -> None:
    house = House(max_batch_bytes=2048)
    answer = await house.post(events(100))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert "events.door.max_batch_bytes" in answer.json()["error"]["message"]
