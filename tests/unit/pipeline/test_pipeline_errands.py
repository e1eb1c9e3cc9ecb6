"""Model calls that nobody waits for."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import pytest

from farthing.errors import UpstreamUnavailable
from farthing.pipeline.errands import Errands, question_to, renewal, second_look
from farthing.types import Answer, Extras, Lifeline, Operation, Principal, Quota, Request, Source, new_id


def request() -> Request:
    return Request(
        id=new_id(),
        principal=Principal(key_id=UUID(int=1), tenant="acme"),
        operation=Operation.CHAT,
        body={"messages": [{"role": "user", "content": "Hi"}], "stream": True, "stream_options": {"include_usage": True}, "seed": 1},
        model="fast",
        fingerprint="f",
        extras=Extras(namespace="docs"),
        stream=True,
        include_usage=True,
        recorded=True,
        over_budget=True,
        started_ns=time.perf_counter_ns(),
        lifeline=Lifeline(None),
        quotas=lambda: [Quota(name="requests", limit=1, remaining=1, reset_s=1)],
    )


class Road:
    """A flow that answers once `gate` is open."""

    def __init__(self, error: Exception | None = None) -> None:
        self.seen: list[Request] = []
        self.cancelled = 0
        self.gate = asyncio.Event()
        self.error = error

    async def __call__(self, errand: Request) -> Answer:
        self.seen.append(errand)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return Answer(source=Source.MODEL, model=errand.model)


def test_each_kind_is_the_request_again_under_its_own_name() -> None:
    asked = request()
    kinds = {"refresh": renewal(asked), "verify": second_look(asked)}
    for purpose, errand in kinds.items():
        assert errand.purpose == purpose
        assert errand.id != asked.id
        assert errand.body == {"messages": [{"role": "user", "content": "Hi"}], "seed": 1}
        assert (errand.stream, errand.include_usage, errand.recorded, errand.over_budget, errand.quotas) == (
            False,
            False,
            False,
            False,
            None,
        )
        assert (errand.principal, errand.model, errand.extras.namespace) == (asked.principal, "fast", "docs")
    assert [errand.extras.cache for errand in kinds.values()] == ["refresh", "off"]
    judged = question_to("cheap", {"model": "cheap", "messages": []}, asked)
    assert (judged.model, judged.body, judged.purpose, judged.extras.cache) == (
        "cheap",
        {"model": "cheap", "messages": []},
        "verify",
        "off",
    )
    assert asked.body["stream"] is True, "the request itself stays as it was"


async def test_what_is_too_many_is_left_out_and_told() -> None:
    errands, road = Errands(most=2), Road()
    ends: list[Answer | None] = []
    assert not errands.send(request(), ends.append), "there is no way yet"
    errands.begin(road)
    assert [errands.send(second_look(request()), ends.append) for _ in range(3)] == [True, True, False]
    assert (errands.skipped, ends) == (2, [None, None])
    road.gate.set()
    async with asyncio.timeout(5):
        while len(ends) < 4:  # noqa: ASYNC110 - two tasks; neither tells
            await asyncio.sleep(0)
    assert [end and end.source for end in ends[2:]] == [Source.MODEL, Source.MODEL]
    assert errands.send(second_look(request()), ends.append), "there is room again"
    await errands.close()


@pytest.mark.parametrize("error", [UpstreamUnavailable("away"), None])
async def test_an_errand_that_fails_or_takes_too_long_is_told_as_nothing(error: Exception | None) -> None:
    errands, road = Errands(timeout_s=0.01 if error is None else 5), Road(error)
    errands.begin(road)
    if error:
        road.gate.set()
    ended = asyncio.Event()
    ends: list[Answer | None] = []

    def done(answer: Answer | None) -> None:
        ends.append(answer)
        ended.set()

    errands.send(second_look(request()), done)
    async with asyncio.timeout(5):
        await ended.wait()
    assert ends == [None]


async def test_at_the_end_what_is_under_way_is_cancelled() -> None:
    errands, road = Errands(), Road()
    errands.begin(road)
    ends: list[Answer | None] = []
    errands.send(second_look(request()), ends.append)
    await asyncio.sleep(0)
    await errands.close()
    assert (road.cancelled, ends) == (1, [None])


async def test_who_asks_gets_the_answer() -> None:
    errands, road = Errands(), Road()
    assert await errands.ask(request(), 5) is None, "there is no way yet"
    errands.begin(road)
    road.gate.set()
    answer = await errands.ask(question_to("cheap", {"messages": []}, request(), purpose="route", cache="on", fingerprint="f1"), 5)
    assert answer is not None
    assert answer.model == "cheap"
    seen = road.seen[0]
    assert (seen.purpose, seen.extras.cache, seen.fingerprint, seen.extras.route, seen.choice) == ("route", "on", "f1", "off", None)
    await errands.close()


async def test_who_has_waited_long_enough_gets_none_and_the_errand_ends() -> None:
    errands, road = Errands(), Road()
    errands.begin(road)
    assert await errands.ask(request(), 0.01) is None
    async with asyncio.timeout(5):
        while not road.cancelled:  # noqa: ASYNC110 - a task that nothing tells of
            await asyncio.sleep(0)


async def test_who_goes_away_lets_go_of_the_errand() -> None:
    errands, road = Errands(), Road()
    errands.begin(road)
    asking = asyncio.create_task(errands.ask(request(), 60))
    async with asyncio.timeout(5):
        while not road.seen:  # noqa: ASYNC110 - a task that nothing tells of
            await asyncio.sleep(0)
        asking.cancel()
        while not road.cancelled:  # noqa: ASYNC110 - a task that nothing tells of
            await asyncio.sleep(0)
    assert asking.cancelled()


async def test_an_errand_that_others_wait_for_goes_on_when_its_asker_has_gone() -> None:
    errands, road = Errands(), Road()
    errands.begin(road)
    errand = request()
    asking = asyncio.create_task(errands.ask(errand, 60))
    async with asyncio.timeout(5):
        while not road.seen:  # noqa: ASYNC110 - a task that nothing tells of
            await asyncio.sleep(0)
    errand.lifeline.hold()
    asking.cancel()
    await asyncio.wait({asking})
    for _ in range(5):
        await asyncio.sleep(0)
    assert road.cancelled == 0
    await errands.close()


async def test_an_errand_that_breaks_is_told_as_nothing(caplog: pytest.LogCaptureFixture) -> None:
    errands, road = Errands(), Road(ZeroDivisionError("ours"))
    errands.begin(road)
    road.gate.set()
    assert await errands.ask(request(), 5) is None
    assert "an errand failed" in caplog.text
