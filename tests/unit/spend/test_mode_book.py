"""What a worker believes of modes: agreed with others, alone while the store is away, and in a moment for each request."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from farthing.errors import Unavailable
from farthing.inprocess.config import InProcessConfig
from farthing.inprocess.stores import InProcessChanges
from farthing.modes import MODES, body_of, pinned, set_mode
from farthing.snapshot import Snapshot
from farthing.spend.mode_book import ModeBook
from farthing.types import TOTAL, Document, Json, Mode, ModeState, Principal

NOW = datetime(2026, 4, 12, 17, 0, tzinfo=UTC)
LADDER = tuple(Mode(name=name, rank=rank) for rank, name in enumerate(("DEEP", "SHALLOW", "SUPER_SHALLOW")))
WHO = Principal(key_id=UUID(int=7), tenant="acme", tier="pro")


class Store(InProcessConfig):
    """A store that can be away."""

    away = False
    reads = 0

    async def read(self, name: str) -> Document | None:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        return await super().read(name)

    async def write(self, name: str, body: Json, *, expect: int | None, by: str, reason: str) -> Document:
        if self.away:
            raise Unavailable("away")
        return await super().write(name, body, expect=expect, by=by, reason=reason)


class Books:
    """Workers with a book each, and what they share."""

    def __init__(self, folder: Path, workers: int = 2) -> None:
        self.now = NOW.timestamp()
        self.store = Store(InProcessChanges())
        self.folder = folder
        self.books = [self.book() for _ in range(workers)]

    def book(self) -> ModeBook:
        return ModeBook(self.store, LADDER, Snapshot(self.folder, MODES, Document), lambda: self.now)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def down(mode: str = "SHALLOW", scope: str = TOTAL, state: ModeState | None = None, by: str = "policy") -> ModeState:
    return set_mode(state or ModeState(), scope, mode, by=by, reason="too dear", now=NOW)


async def test_a_decision_holds_here_at_once_and_elsewhere_when_it_was_written(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    here, there = books.books
    here.want(down())
    assert (here.mode_of(WHO).name, there.mode_of(WHO).name) == ("SHALLOW", "DEEP")
    with caplog.at_level(logging.WARNING):
        assert await here.agree() is None
    assert await there.agree() is None
    assert there.mode_of(WHO).name == "SHALLOW"
    assert [record.getMessage() for record in caplog.records] == ["modes: total DEEP → SHALLOW: too dear"]
    assert (here.written, there.written) == (1, 0)
    [version] = await books.store.history(MODES, 10)
    assert (version.by, version.reason) == ("policy", "total DEEP → SHALLOW")


async def test_whoever_was_slower_adopts_what_the_other_wrote(books: Books) -> None:
    here, there = books.books
    await here.agree()
    await there.agree()
    here.want(down("SHALLOW"))
    there.want(down("SUPER_SHALLOW"))
    await here.agree()
    assert await there.agree() == 0.0
    assert await there.agree() is None
    assert there.mode_of(WHO).name == "SHALLOW"
    assert len(await books.store.history(MODES, 10)) == 1


async def test_an_operators_pin_is_not_overwritten_by_a_decision_made_without_it(books: Books) -> None:
    here, _ = books.books
    await here.agree()
    state = pinned(ModeState(), TOTAL, "DEEP", by="operator:ann", now=NOW)
    await books.store.write(MODES, body_of(state), expect=0, by="operator:ann", reason="")
    here.want(down())
    await here.agree()
    await here.agree()
    assert here.mode_of(WHO).name == "DEEP"
    assert here.state.pins.keys() == {TOTAL}


async def test_alone_it_goes_on_and_afterwards_the_worse_of_both_holds(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    here, there = books.books
    await here.agree()
    await there.agree()
    books.store.away = True
    here.want(down("SUPER_SHALLOW", "tier:free"))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert await here.agree() == 1.0
    assert here.away
    assert here.mode_of(Principal(key_id=UUID(int=1), tenant="x", tier="free")).name == "SUPER_SHALLOW"
    assert len(caplog.records) == 1, "it is told once"
    books.store.away = False
    there.want(down("SHALLOW", "tier:free", down("SHALLOW", "tenant:acme")))
    await there.agree()
    await here.agree()
    assert not here.away
    assert {scope: entry.mode for scope, entry in here.state.entries.items()} == {"tier:free": "SUPER_SHALLOW", "tenant:acme": "SHALLOW"}
    await there.agree()
    assert there.state == here.state


async def test_a_write_of_which_nobody_knows_whether_it_was_done_is_not_done_twice(books: Books) -> None:
    here, _ = books.books
    await here.agree()
    here.want(down())
    state = here.state
    books.store.away = True
    await here.agree()
    books.store.away = False
    await books.store.write(MODES, body_of(state), expect=0, by="policy", reason="it had come through")
    await here.agree()
    await here.agree()
    assert len(await books.store.history(MODES, 10)) == 1
    assert here.mode_of(WHO).name == "SHALLOW"


async def test_a_start_without_the_store_goes_on_from_what_was_known_last(books: Books) -> None:
    here, _ = books.books
    here.want(down())
    running = asyncio.create_task(here.run())
    async with asyncio.timeout(5):
        while not (books.folder / "modes.jsonl").exists():  # noqa: ASYNC110 - a file does not tell
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    books.store.away = True
    later = books.book()
    await later.open()
    await later.agree()
    assert later.mode_of(WHO).name == "SHALLOW"
    books.store.away = False
    await books.store.write(MODES, {}, expect=1, by="operator:ann", reason="")
    await later.agree()
    assert later.mode_of(WHO).name == "DEEP"


async def test_a_decision_on_an_old_snapshot_is_weighed_with_what_the_store_says(books: Books) -> None:
    here, there = books.books
    there.want(down("SUPER_SHALLOW"))
    await there.agree()
    here.want(down("SHALLOW"))
    await here.agree()
    assert here.mode_of(WHO).name == "SUPER_SHALLOW"


async def test_what_nobody_understands_changes_nothing(books: Books, caplog: pytest.LogCaptureFixture) -> None:
    here, _ = books.books
    here.want(down())
    await here.agree()
    await books.store.write(MODES, {"entries": "?"}, expect=None, by="somebody", reason="")
    for _ in range(3):
        await here.agree()
    assert here.mode_of(WHO).name == "SHALLOW"
    assert len([record for record in caplog.records if "ignored" in record.getMessage()]) == 1


async def test_an_alarm_outside_sets_the_mode_by_one_field_and_it_stays_in_that_form(books: Books) -> None:
    here, _ = books.books
    await books.store.write(MODES, {"RAG_MODE": "SHALLOW"}, expect=None, by="alarm", reason="")
    await here.agree()
    assert here.mode_of(WHO).name == "SHALLOW"
    here.want(down("SUPER_SHALLOW"))
    await here.agree()
    document = await books.store.read(MODES)
    assert document is not None
    assert document.body["RAG_MODE"] == "SUPER_SHALLOW"


async def test_a_pin_ends_in_time_without_any_news(books: Books) -> None:
    here, _ = books.books
    state = pinned(ModeState(), TOTAL, "SUPER_SHALLOW", by="operator:ann", now=NOW, until=NOW + timedelta(seconds=10))
    await books.store.write(MODES, body_of(state), expect=0, by="operator:ann", reason="")
    await here.agree()
    assert here.mode_of(WHO).name == "SUPER_SHALLOW"
    books.now += 9.9
    assert here.mode_of(WHO).name == "SUPER_SHALLOW"
    books.now += 0.2
    assert here.mode_of(WHO).name == "DEEP"


async def test_an_older_version_that_comes_late_is_not_adopted(books: Books) -> None:
    here, _ = books.books
    old = await books.store.write(MODES, body_of(down("SUPER_SHALLOW")), expect=0, by="operator:ann", reason="")
    await books.store.write(MODES, body_of(ModeState()), expect=1, by="operator:ann", reason="")
    await here.agree()
    here.heard(old)
    assert here.mode_of(WHO).name == "DEEP"


async def test_the_rank_of_a_tier_is_shown(books: Books) -> None:
    here, _ = books.books
    here.want(down("SUPER_SHALLOW", "tier:free", down("SHALLOW")))
    assert [here.rank_of(f"tier:{tier}") for tier in ("free", "pro")] == [2, 1]


async def test_callers_are_remembered_but_not_without_end(books: Books) -> None:
    here, _ = books.books
    for at in range(10_050):
        here.mode_of(Principal(key_id=UUID(int=at), tenant="t"))
    assert len(here._modes) <= 10_000
