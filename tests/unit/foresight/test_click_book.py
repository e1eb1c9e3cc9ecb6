from collections.abc import Sequence
from datetime import timedelta

import pytest

from farthing.errors import InvalidRequest, Unavailable
from farthing.foresight.click_book import ClickBook
from farthing.inprocess.foresight_log import InProcessForesightLog
from farthing.inprocess.states import InProcessStates
from farthing.inprocess.stores import InProcessChanges
from farthing.settings import ForesightSettings
from farthing.testing.foresight import click, foreseen, monday_of
from farthing.testing.stores import Clock
from farthing.types import Click, Foreseen

SETTINGS = ForesightSettings.model_validate({"max_pending": 3, "actions": {"briefing": {"model": "fast", "user": "x"}}})


class Moody(InProcessForesightLog):
    """A log that can be away, or take nothing."""

    trouble: Exception | None = None

    async def add(self, foreseen: Sequence[Foreseen], clicks: Sequence[Click]) -> None:
        if self.trouble is not None:
            raise self.trouble
        await super().add(foreseen, clicks)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> Moody:
    return Moody(InProcessStates(InProcessChanges()), clock=clock)


@pytest.fixture
def book(log: Moody, clock: Clock) -> ClickBook:
    return ClickBook(log, SETTINGS, clock=clock)


async def test_what_waits_while_the_store_is_away_is_counted_when_it_is_back(book: ClickBook, log: Moody, clock: Clock) -> None:
    log.trouble = Unavailable("away")
    one = foreseen(clock)
    await book.computed(one)
    book.clicked(click(clock, one.request_id))
    with pytest.raises(Unavailable):
        await book.drain()
    assert book.pending == 2
    log.trouble = None
    await book.drain()
    assert book.pending == 0
    [counts] = await book.learned("acme")
    assert (counts.computed, counts.read) == (1, 1)


async def test_no_more_than_so_many_wait_and_the_others_are_counted_as_dropped(book: ClickBook, log: Moody, clock: Clock) -> None:
    log.trouble = Unavailable("away")
    for _ in range(5):
        book.clicked(click(clock, None))
    await book.computed(foreseen(clock))
    assert (book.pending, book.dropped) == (3, 3)


async def test_what_cannot_be_counted_at_all_is_not_in_the_way_of_the_rest(book: ClickBook, log: Moody, clock: Clock) -> None:
    log.trouble = InvalidRequest("a NUL")
    book.clicked(click(clock, None))
    await book.drain()
    assert (book.pending, book.dropped) == (0, 1)


async def test_the_report_is_that_of_the_week_before(book: ClickBook, log: Moody, clock: Clock) -> None:
    await book.computed(foreseen(clock))
    assert await book.report() == 0
    monday = monday_of(clock.now)
    clock.now += timedelta(days=7)
    assert await book.report() == 1
    await book.computed(foreseen(clock))
    [stored] = await log.week("acme", monday)
    assert (stored.week, stored.rows[0].computed) == (monday, 1)
