"""The stages that let requests in: limits of a key, and how many model calls a worker makes at the same time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from farthing.errors import InvalidRequest, Overloaded, RateLimited
from farthing.pipeline.holding import Holding
from farthing.pipeline.stream import Replayed
from farthing.settings import LimitsSettings
from farthing.spend.admission import Admission
from farthing.spend.calls import ModelCalls
from farthing.spend.limit_rules import LimitRules
from farthing.spend.limit_table import LimitTable
from farthing.spend.limits import KeyLimits
from farthing.types import CHECK, Answer, Extras, Json, Lifeline, Limits, Operation, Principal, Request, Source, new_id

KEY = UUID(int=5 << 64 | 1)


def request(limits: Limits, key: UUID = KEY) -> Request:
    return Request(
        id=new_id(),
        principal=Principal(key_id=key, tenant="t", limits=limits),
        operation=Operation.CHAT,
        body={},
        model="m",
        extras=Extras(),
        started_ns=0,
        lifeline=Lifeline(None),
    )


class Work:
    """What follows the stage: requests that go on until they are let go, in the order in which they came in."""

    def __init__(self) -> None:
        self.inside: list[tuple[Request, asyncio.Future[Answer]]] = []
        self.most = 0
        self.entered: list[UUID] = []
        self._came = asyncio.Event()

    async def somebody(self) -> None:
        """Wait until there is somebody inside."""
        if not self.inside:
            self._came.clear()
            await self._came.wait()

    async def __call__(self, one: Request) -> Answer:
        entry = one, asyncio.get_running_loop().create_future()
        self.inside.append(entry)
        self.entered.append(one.id)
        self._came.set()
        self.most = max(self.most, len(self.inside))
        try:
            answer: Answer = await entry[1]
        finally:
            self.inside.remove(entry)
        return answer

    def finish(self, *, stream: bool = False) -> None:
        """End the oldest one."""
        chunks: list[Json] = [{"choices": []}]
        answer = Answer(source=Source.MODEL, model="m", body=None if stream else b"", stream=Replayed(iter(chunks)) if stream else None)
        self.inside[0][1].set_result(answer)

    def fail(self) -> None:
        self.inside[0][1].set_exception(InvalidRequest("no"))


async def turns(count: int = 20) -> None:
    """Let everybody go on who can."""
    for _ in range(count):
        await asyncio.sleep(0)


Admitting = Callable[..., tuple[Admission, KeyLimits]]


@pytest.fixture
async def admission(tmp_path: Path) -> AsyncIterator[Admitting]:
    """Makes workers on one folder."""
    tables = []

    def make(*, max_wait_s: float = 30, max_queue: int = 100) -> tuple[Admission, KeyLimits]:
        tables.append(LimitTable(tmp_path / "run", rows=64, columns=8))
        limits = KeyLimits(tables[-1], max_wait_s=max_wait_s)
        return Admission(LimitRules(LimitsSettings()), limits, max_wait_s=max_wait_s, max_queue=max_queue), limits

    yield make
    for table in tables:
        table.close()


async def test_a_key_without_limits_goes_through_and_no_file_is_made(admission: Admitting, tmp_path: Path) -> None:
    stage, _ = admission()
    work = Work()
    one = request(Limits())
    task = asyncio.create_task(stage(one, work))
    await turns()
    work.finish()
    await task
    assert one.quotas is None
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a look at a local folder


async def test_requests_beyond_the_concurrency_wait_and_come_in_the_order_in_which_they_came(admission: Admitting) -> None:
    stage, limits = admission()
    work, asked = Work(), [request(Limits(concurrency=2)) for _ in range(7)]
    tasks = []
    for one in asked:
        tasks.append(asyncio.create_task(stage(one, work)))
        await turns()
    assert (len(work.inside), stage.waiting) == (2, 5)
    for left in range(7, 0, -1):
        assert len(work.inside) == min(2, left)
        work.finish()
        await turns()
    await asyncio.gather(*tasks)
    assert work.most == 2
    assert work.entered == [one.id for one in asked]
    assert (stage.waiting, limits.refused["concurrency"]) == (0, 0)


async def test_a_newcomer_does_not_overtake_those_in_line(admission: Admitting) -> None:
    stage, _ = admission()
    work, asked = Work(), [request(Limits(concurrency=1)) for _ in range(3)]
    tasks = [asyncio.create_task(stage(one, work)) for one in asked[:2]]
    await turns()
    work.finish()
    tasks.append(asyncio.create_task(stage(asked[2], work)))
    for _ in range(2):
        await turns()
        work.finish()
    await asyncio.gather(*tasks)
    assert work.entered == [one.id for one in asked]


@pytest.mark.parametrize("way", ["answer", "failure", "cancelled", "stream closed", "stream read", "stream unread"])
async def test_a_place_is_free_again_however_a_request_ends(admission: Admitting, way: str) -> None:
    stage, limits = admission()
    work, key = Work(), KEY.bytes
    task = asyncio.create_task(stage(request(Limits(concurrency=1)), work))
    await turns()
    if way == "cancelled":
        task.cancel()
    elif way == "failure":
        work.fail()
    else:
        work.finish(stream=way.startswith("stream"))
    await asyncio.wait([task])
    if way.startswith("stream"):
        stream = task.result().stream
        assert stream is not None
        assert not limits.advance(key, Limits(concurrency=1), 1.0)
        if way == "stream read":
            assert [chunk async for chunk in stream] == [{"choices": []}]
            assert not limits.advance(key, Limits(concurrency=1), 1.0)
        await stream.aclose()
        await stream.aclose()
    assert limits.advance(key, Limits(concurrency=1), 1.0)
    assert not limits.advance(key, Limits(concurrency=1), 1.0)


async def test_who_goes_away_while_he_waits_leaves_the_line_at_once(admission: Admitting) -> None:
    stage, _ = admission()
    work, asked = Work(), [request(Limits(concurrency=1)) for _ in range(4)]
    tasks = [asyncio.create_task(stage(one, work)) for one in asked]
    await turns()
    for gone in (1, 2):
        tasks[gone].cancel()
    await turns()
    assert stage.waiting == 1
    work.finish()
    await turns()
    work.finish()
    await asyncio.wait(tasks)
    assert work.entered == [asked[0].id, asked[3].id]
    assert stage.waiting == 0


async def closed_and_cancelled(first: asyncio.Task[Answer], second: asyncio.Task[Answer]) -> None:
    """End the first one's stream, and cancel the second one before it can learn that its turn has come."""
    stream = (await first).stream
    assert stream is not None
    await stream.aclose()
    second.cancel()
    await turns()


async def test_who_is_cancelled_in_the_moment_of_his_turn_hands_it_on(admission: Admitting) -> None:
    stage, limits = admission()
    work, asked = Work(), [request(Limits(concurrency=1)) for _ in range(3)]
    tasks = [asyncio.create_task(stage(one, work)) for one in asked]
    await turns()
    work.finish(stream=True)
    await closed_and_cancelled(*tasks[:2])
    assert work.entered == [asked[0].id, asked[2].id]
    work.finish()
    await asyncio.wait(tasks)
    assert stage.waiting == 0
    assert limits.advance(KEY.bytes, Limits(concurrency=1), 1.0)


async def test_a_wait_that_is_too_long_is_a_429_that_names_the_limit(admission: Admitting) -> None:
    stage, limits = admission(max_wait_s=0.01)
    work = Work()
    first = asyncio.create_task(stage(request(Limits(concurrency=1)), work))
    await turns()
    with pytest.raises(RateLimited, match=r"1 requests of this API key are under way.*limits\.max_wait_s") as caught:
        await stage(request(Limits(concurrency=1)), work)
    assert (caught.value.limit, caught.value.status) == ("concurrency", 429)
    assert (stage.waiting, limits.refused["concurrency"]) == (0, 1)
    work.finish()
    await first


async def test_a_line_has_an_end(admission: Admitting) -> None:
    stage, _ = admission(max_queue=2)
    work = Work()
    tasks = [asyncio.create_task(stage(request(Limits(concurrency=1)), work)) for _ in range(3)]
    await turns()
    with pytest.raises(RateLimited, match=r"limits\.max_queue"):
        await stage(request(Limits(concurrency=1)), work)
    other = asyncio.create_task(stage(request(Limits(concurrency=1), UUID(int=9 << 64 | 2)), work))
    await turns()
    assert len(work.inside) == 2  # another key is not held up
    for task in (*tasks, other):
        task.cancel()
    await asyncio.wait([*tasks, other])


async def test_a_place_that_becomes_free_in_another_worker_is_seen(admission: Admitting) -> None:
    (one, _), (two, _) = admission(), admission()
    work = Work()
    first = asyncio.create_task(one(request(Limits(concurrency=1)), work))
    await turns()
    second = asyncio.create_task(two(request(Limits(concurrency=1)), work))
    await turns()
    assert (len(work.inside), two.waiting) == (1, 1)
    work.finish()
    await first
    async with asyncio.timeout(10):
        await work.somebody()
    work.finish()
    await second
    assert work.most == 1


async def test_workers_take_turns_by_who_came_first(admission: Admitting) -> None:
    stages = [admission()[0] for _ in range(3)]
    work, asked = Work(), [request(Limits(concurrency=1)) for _ in range(9)]
    tasks = []
    for number, one in enumerate(asked):
        tasks.append(asyncio.create_task(stages[number % 3](one, work)))
        await turns()
    async with asyncio.timeout(20):
        for _ in asked:
            await work.somebody()
            work.finish()
            await turns()
        await asyncio.gather(*tasks)
    assert work.most == 1
    assert work.entered == [one.id for one in asked]


async def test_requests_per_minute_are_refused_without_waiting(admission: Admitting) -> None:
    stage, _ = admission()

    async def at_once(_: Request) -> Answer:
        return Answer(source=Source.MODEL, model="m", body=b"")

    asked = [request(Limits(requests_per_minute=2, concurrency=1)) for _ in range(3)]
    for one in asked[:2]:
        await stage(one, at_once)
    with pytest.raises(RateLimited) as caught:
        await stage(asked[2], at_once)
    assert caught.value.limit == "requests"
    assert 0 < (caught.value.retry_after_s or 0) < 30.1
    assert [quota.remaining for one in asked if one.quotas for quota in one.quotas()] == [0, 0, 0]


async def test_a_worker_makes_so_many_model_calls_and_no_more() -> None:
    calls = ModelCalls(most=2, max_queue=3, max_wait_s=30)
    work, asked = Work(), [request(Limits()) for _ in range(6)]
    tasks = [asyncio.create_task(calls(one, work)) for one in asked]
    await turns()
    assert (calls.under_way, calls.waiting) == (2, 3)
    with pytest.raises(Overloaded, match=r"limits\.max_queued_calls") as caught:
        await tasks[5]
    assert (caught.value.status, caught.value.retry_after_s, calls.refused) == (503, 1.0, 1)
    tasks[3].cancel()
    for stream in (True, False, True, False):
        await turns()
        work.finish(stream=stream)
        await turns()
        for task in tasks:
            answer = task.result() if task.done() and not task.cancelled() and not task.exception() else None
            if answer and answer.stream:
                await answer.stream.aclose()
    await asyncio.wait(tasks)
    assert (work.most, calls.under_way, calls.waiting) == (2, 0, 0)
    assert work.entered == [asked[number].id for number in (0, 1, 2, 4)]


async def test_a_model_call_is_not_waited_for_without_end() -> None:
    calls = ModelCalls(most=1, max_queue=3, max_wait_s=0.01)
    work = Work()
    first = asyncio.create_task(calls(request(Limits()), work))
    await turns()
    with pytest.raises(Overloaded, match=r"none ended within 0\.01 s"):
        await calls(request(Limits()), work)
    assert calls.waiting == 0
    work.fail()
    with pytest.raises(InvalidRequest):
        await first
    assert calls.under_way == 0


async def test_a_question_about_a_held_answer_waits_for_nobody_for_it_has_the_place_of_who_holds_it() -> None:
    calls, work = ModelCalls(most=1, max_queue=3, max_wait_s=0.01), Work()

    async def held(one: Request) -> Answer:
        question = msgspec.structs.replace(one, purpose=CHECK)
        judging = asyncio.create_task(calls(question, work))
        await work.somebody()
        assert (calls.under_way, calls.waiting) == (1, 0)
        work.finish()
        return await judging

    assert (await calls(request(Limits()), held)).model == "m"
    assert calls.under_way == 0


async def test_a_call_cancelled_in_the_moment_of_its_turn_hands_it_on() -> None:
    calls, work = ModelCalls(most=1, max_queue=3, max_wait_s=30), Work()
    asked = [request(Limits()) for _ in range(3)]
    tasks = [asyncio.create_task(calls(one, work)) for one in asked]
    await turns()
    work.finish(stream=True)
    await closed_and_cancelled(*tasks[:2])
    assert work.entered == [asked[0].id, asked[2].id]
    work.finish()
    await asyncio.wait(tasks)
    assert (calls.under_way, calls.waiting) == (0, 0)


async def test_what_a_stream_holds_is_let_go_of_also_when_closing_fails() -> None:
    class Broken(Replayed):
        async def aclose(self) -> None:
            raise ConnectionError

    released: list[int] = []
    stream = Holding(Broken(iter(())), lambda: released.append(1))
    with pytest.raises(ConnectionError):
        await stream.aclose()
    assert released == [1]
