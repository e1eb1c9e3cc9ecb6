"""What several do at the same time is done together."""

import asyncio

import pytest

from farthing.events.gathering import Gathering


class Slow:
    """Doubles numbers, when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()

    async def work(self, numbers: list[int]) -> list[int]:
        self.batches.append(numbers)
        await self.go.wait()
        if 13 in numbers:
            raise ValueError(numbers)
        return [2 * number for number in numbers]


async def test_what_comes_while_one_is_under_way_is_done_together_in_order() -> None:
    slow = Slow()
    together = Gathering(slow.work, most=3)
    first = asyncio.create_task(together(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert slow.batches == [[1]]
    rest = [asyncio.create_task(together(number)) for number in (2, 3, 4, 5)]
    await asyncio.sleep(0)
    assert len(together) == 4
    slow.go.set()
    assert await asyncio.gather(first, *rest) == [2, 4, 6, 8, 10]
    assert slow.batches == [[1], [2, 3, 4], [5]]
    assert await together(7) == 14


async def test_an_error_is_that_of_its_batch_and_the_next_one_goes_on() -> None:
    slow = Slow()
    slow.go.set()
    together = Gathering(slow.work, most=2)
    results = await asyncio.gather(together(1), together(13), together(2), return_exceptions=True)
    assert [type(one) for one in results] == [ValueError, ValueError, int]


async def test_who_is_cancelled_does_not_take_the_others_with_him() -> None:
    slow = Slow()
    together = Gathering(slow.work, most=2)
    one, two = asyncio.create_task(together(1)), asyncio.create_task(together(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    one.cancel()
    slow.go.set()
    with pytest.raises(asyncio.CancelledError):
        await one
    assert await two == 4


async def test_when_the_work_itself_is_cancelled_nobody_waits_for_ever() -> None:
    slow = Slow()
    together = Gathering(slow.work, most=1)
    tasks = [asyncio.create_task(together(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert together._running is not None
    together._running.cancel()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert [type(one) for one in results] == [asyncio.CancelledError] * 2
