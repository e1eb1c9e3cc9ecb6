"""The admin doors to feedback and to the event bus, on stores in this process."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.applications import Starlette

from farthing.cipher import CannotOpen, Cipher
from farthing.feedback.sealing import FeedbackSealing
from farthing.http.admin import Doors
from farthing.http.admin_events import BusDoors
from farthing.http.admin_feedback import FeedbackDoors
from farthing.inprocess.events import InProcessEvents
from farthing.inprocess.feedback import InProcessFeedback
from farthing.inprocess.retention import InProcessRetention
from farthing.inprocess.states import InProcessStates
from farthing.inprocess.stores import InProcessChanges
from farthing.settings import ServerSettings
from farthing.testing.feedback import feedback
from farthing.testing.stores import Clock
from farthing.types import Event, Json, NewTranscript, RetentionPolicy, StoredTranscript, Subscription, utc_now, uuid7_at


class House:
    def __init__(self) -> None:
        changes = InProcessChanges()
        self.clock = Clock(utc_now())
        self.feedback = InProcessFeedback(clock=self.clock)
        self.retention = InProcessRetention(changes)
        self.bus = InProcessEvents(changes, InProcessStates(changes))
        self.sealing = FeedbackSealing(Cipher(bytes(32)))
        self.texts: Json | None = {"request": {"messages": ["asked"]}, "answer": {"choices": [{"message": {"content": "said"}}]}}
        said = FeedbackDoors(self.feedback, self.sealing.open, self.retention, self._opened)
        doors: list[Doors] = [said, BusDoors(self.bus, ServerSettings())]
        transport = httpx.ASGITransport(Starlette(routes=[route for one in doors for route in one.routes()]))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://farthing/admin/v1")

    def _opened(self, stored: StoredTranscript) -> Json:
        del stored
        if self.texts is None:
            raise CannotOpen("sealed under another key")
        return self.texts

    async def said(self, number: int, **facts: Any) -> None:
        """Somebody has said something, so many seconds ago."""
        unix_ms = int((self.clock.now - timedelta(seconds=number)).timestamp() * 1000)
        one = feedback(number, self.clock, **{"id": uuid7_at(unix_ms, bytes(10)), "request_id": uuid7_at(unix_ms, b"r" * 10), **facts})
        await self.feedback.add(self.sealing.seal(one))

    async def get(self, path: str, status: int = 200) -> Any:
        answer = await self.client.get(path)
        assert answer.status_code == status, answer.text
        return answer.json() if status == 200 else answer.json()["error"]["message"]


@pytest.fixture
def house() -> House:
    return House()


async def test_pages_of_feedback_follow_each_other_newest_first(house: House) -> None:
    for number in range(7):
        await house.said(number, correction=f"c{number}" if number % 2 else None)
    found = [await house.get("/feedback?limit=3")]
    while found[-1]["has_more"]:
        found.append(await house.get(f"/feedback?limit=3&before={found[-1]['next']}"))
    rows = [one for page in found for one in page["data"]]
    assert [one["correction"] for one in rows] == [None, "c1", None, "c3", None, "c5", None]
    assert found[-1]["next"] is None
    assert [one["correction"] for one in (await house.get("/feedback?corrected=true"))["data"]] == ["c1", "c3", "c5"]
    assert len((await house.get("/feedback?since=3s"))["data"]) in {3, 4}
    assert (await house.get("/feedback?tenant=rival"))["data"] == []


async def test_what_was_sealed_under_a_lost_key_is_listed_with_the_reason(house: House) -> None:
    lost = FeedbackSealing(Cipher(bytes([1] * 32)))
    await house.feedback.add(lost.seal(feedback(1, house.clock, correction="Paris")))
    (row,) = (await house.get("/feedback"))["data"]
    assert (row["correction"], "old_encryption_keys" in row["problem"]) == (None, True)


@pytest.mark.parametrize(
    ("texts", "messages", "answer"),
    [
        ({"request": {"messages": ["asked"]}, "answer": {"choices": [{"message": {"content": "said"}}]}}, ["asked"], "said"),
        ({"request": {"cut": True, "size": 9}, "answer": None}, None, None),
        ({"request": {"input": "x"}, "answer": {"choices": []}}, None, None),
        ({"request": {"messages": []}, "answer": {"choices": [{"message": {"content": None}}]}}, [], None),
        (None, None, None),
    ],
)
async def test_an_export_has_the_texts_where_they_are_kept_whole(house: House, texts: Any, messages: Any, answer: Any) -> None:
    await house.said(1, correction="Paris")
    (bare,) = (await house.get("/feedback/export"))["data"]
    assert (bare["correction"], bare["messages"], bare["answer"], bare["model"]) == ("Paris", None, None, None)
    house.texts = texts
    await house.retention.set_policy(RetentionPolicy(tenant="acme", enabled=True, ttl_s=60, set_by=None, set_at=utc_now()))
    (kept,) = await house.feedback.latest(tenant=None, limit=1)
    facts = {"tenant": "acme", "model": "fast", "source": "model", "payload": b"x", "arrived_ns": 2**62}
    await house.retention.put([NewTranscript(request_id=kept.request_id, **facts)])  # type: ignore[arg-type]  # by name
    (row,) = (await house.get("/feedback/export"))["data"]
    assert (row["correction"], row["messages"], row["answer"], row["model"]) == ("Paris", messages, answer, "fast")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/feedback?limit=0", "limit"),
        ("/feedback?limit=1001", "limit"),
        ("/feedback/export?limit=101", "limit"),
        ("/feedback?corrected=perhaps", "corrected"),
        ("/feedback?before=yesterday", "before"),
        ("/feedback?since=yesterday", "since"),
        ("/feedback?tenant=%00", "tenant"),
        ("/feedback?user=ann", "user"),
        ("/events?after=-1", "after"),
        ("/events?after=99999999999999999999", "after"),
        ("/events?limit=x", "limit"),
        ("/events?tenant=%00", "tenant"),
        ("/events/dead?handler=%00", "handler"),
        ("/events/dead?after=1", "after"),
        ("/events/backlog?limit=1", "limit"),
    ],
)
async def test_what_is_asked_wrongly_is_refused_by_name(house: House, path: str, says: str) -> None:
    assert says in await house.get(path, 400)


async def test_the_tail_goes_on_from_where_it_ended(house: House) -> None:
    now = utc_now()
    made = [Event(id=f"e{n}", source="app", type="x", tenant=["acme", "rival"][n % 2], time=now, received_at=now) for n in range(6)]
    await house.bus.publish(made[:3])
    first = await house.get("/events?limit=2")
    assert [one["id"] for one in first["data"]] == ["e1", "e2"]
    assert (first["data"][0]["specversion"], first["data"][0]["tenant"]) == ("1.0", "rival")
    await house.bus.publish(made[3:])
    then = await house.get(f"/events?after={first['next']}&tenant=acme")
    assert [one["id"] for one in then["data"]] == ["e4"]
    assert (await house.get(f"/events?after={2**62}"))["next"] == 2**62


async def test_dead_letters_are_shown_and_live_again(house: House) -> None:
    now = utc_now()
    await house.bus.subscribe([Subscription(handler="h", types=("*",))])
    await house.bus.publish([Event(id="e1", source="app", type="x", tenant="acme", time=now, received_at=now)])
    (delivery,) = await house.bus.take("h", lanes=1, lease_s=30)
    await house.bus.failed(delivery, "it is poisoned", None)
    (letter,) = (await house.get("/events/dead?tenant=acme&handler=h"))["data"]
    assert (letter["error"], letter["event"]["id"], letter["handler"]) == ("it is poisoned", "e1", "h")
    assert (await house.get("/events/dead?tenant=rival"))["data"] == []
    (behind,) = (await house.get("/events/backlog"))["data"]
    assert (behind["handler"], behind["dead"]) == ("h", 1)
    done = await house.client.post("/events/replay", json={"ids": [letter["id"], str(uuid4())]})
    assert done.json() == {"object": "farthing.event_replay", "asked": 2, "replayed": 1}
    assert len(await house.bus.take("h", lanes=1, lease_s=30)) == 1
    wrong: list[Json] = [{"ids": []}, {"ids": ["x"]}, {}, {"ids": [str(uuid4())], "all": True}]
    for body in wrong:
        assert (await house.client.post("/events/replay", json=body)).status_code == 400
