from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from farthing.errors import InvalidRequest, Unavailable
from farthing.inprocess.stores import InProcessLedger
from farthing.spend import salvage
from farthing.spend.journal import Journal, Segment
from farthing.spend.pump import Pump
from farthing.types import LedgerEntry, new_id

_WRITER = """
import sys
from pathlib import Path
from farthing.spend.journal import Journal
from farthing.types import LedgerEntry, new_id

journal = Journal(Path(sys.argv[1]), segment_bytes=int(sys.argv[2]), max_bytes=10**9)
while True:
    entry = LedgerEntry(id=new_id(), request_id=new_id(), attempt=1, final=True, tenant="t", key_id=None, user_id=None, tier=None,
        operation="chat", source="model", model_asked="m", model_used="m", provider="p", upstream_model="u")
    journal.record(entry)
    sys.stdout.write(f"{entry.id}\\n")
    sys.stdout.flush()
"""
_SMALL_DISK = """
import resource, sys
from pathlib import Path
from farthing.spend.journal import Journal
from farthing.types import LedgerEntry, new_id

resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
journal = Journal(Path(sys.argv[1]), segment_bytes=10**6, max_bytes=10**9, max_in_memory=7)
for _ in range(30):
    journal.record(LedgerEntry(id=new_id(), request_id=new_id(), attempt=1, final=True, tenant="t", key_id=None, user_id=None, tier=None,
        operation="chat", source="model", model_asked="m", model_used="m", provider="p", upstream_model="u"))
(path,) = Path(sys.argv[1]).glob("*.jsonl")
lines = path.read_bytes().split(b"\\n")
assert lines[-1] == b"", "a line that did not fit is not left torn"
print(len(lines) - 1, journal.dropped, journal.backlog_bytes)
"""


def entry(tenant: str = "t", **more: str) -> LedgerEntry:
    return LedgerEntry(
        id=new_id(),
        request_id=new_id(),
        attempt=1,
        final=True,
        tenant=tenant,
        key_id=None,
        user_id=None,
        tier=None,
        operation="chat",
        source="model",
        model_asked=more.get("model_asked", "m"),
        model_used="m",
        provider="p",
        upstream_model="u",
    )


LINE = len(msgspec.json.encode(entry())) + 1


class Store(InProcessLedger):
    """The real in-process store, which can be away, and writes down in which batches entries came."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.batches: list[int] = []
        self.during: Callable[[], None] = lambda: None

    async def append(self, entries: Sequence[bytes]) -> int:
        await asyncio.sleep(0)
        self.during()
        if self.away:
            raise Unavailable("the store is away")
        new = await super().append(entries)
        self.batches.append(len(entries))
        return new

    @property
    def ids(self) -> list[str]:
        return [str(key) for key in self._entries]


def journal(path: Path, *, segment_bytes: int = 10**6, max_bytes: int = 10**9, max_in_memory: int = 10_000) -> Journal:
    return Journal(path, segment_bytes=segment_bytes, max_bytes=max_bytes, max_in_memory=max_in_memory)


async def drained(made: Journal, store: Store, most: int = 1000) -> int:
    total = 0
    while sent := await made.flush(store, most):
        total += sent
    return total


def files(path: Path) -> list[Path]:
    return sorted(path.glob("*.jsonl"))


async def test_entries_reach_the_store_in_order_and_once(tmp_path: Path) -> None:
    made, store = journal(tmp_path), Store()
    entries = [entry() for _ in range(25)]
    for one in entries:
        made.record(one)
    assert made.backlog_bytes == 25 * LINE
    assert await drained(made, store, most=10) == 25
    assert store.batches == [10, 10, 5]
    assert store.ids == [str(one.id) for one in entries]
    assert made.backlog_bytes == 0
    assert await drained(made, store) == 0


async def test_an_entry_is_on_disk_before_record_returns(tmp_path: Path) -> None:
    made = journal(tmp_path)
    one = entry()
    made.record(one)
    (path,) = files(tmp_path)
    assert msgspec.json.decode(path.read_bytes(), type=LedgerEntry) == one
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_file_is_cut_when_the_store_has_all_and_used_again(tmp_path: Path) -> None:
    made, store = journal(tmp_path), Store()
    for _ in range(3):
        made.record(entry())
        await drained(made, store)
    (path,) = files(tmp_path)
    assert path.stat().st_size == 0
    assert len(store.ids) == 3


async def test_full_segments_are_followed_by_new_ones_and_removed_when_sent(tmp_path: Path) -> None:
    made, store = journal(tmp_path, segment_bytes=3 * LINE), Store()
    for _ in range(10):
        made.record(entry())
    assert len(files(tmp_path)) == 4
    assert await made.flush(store, 1000) == 3
    assert len(files(tmp_path)) == 3
    await drained(made, store)
    assert len(store.ids) == 10
    assert [path.stat().st_size for path in files(tmp_path)] == [0]


async def test_entries_recorded_while_a_batch_is_under_way_are_not_cut_off(tmp_path: Path) -> None:
    made, store = journal(tmp_path), Store()
    made.record(entry())
    late = [entry(), entry()]

    def come_late() -> None:
        if late:
            made.record(late.pop())

    store.during = come_late
    await drained(made, store)
    assert len(store.ids) == 3


async def test_while_the_store_is_away_nothing_is_lost(tmp_path: Path) -> None:
    made, store = journal(tmp_path, segment_bytes=5 * LINE), Store()
    store.away = True
    for _ in range(12):
        made.record(entry())
        with pytest.raises(Unavailable):
            await made.flush(store, 1000)
    assert made.backlog_bytes == 12 * LINE
    assert len(made._memory) == 0
    store.away = False
    assert await drained(made, store) == 12
    assert len(set(store.ids)) == 12


async def test_a_full_spool_falls_back_to_bounded_memory_then_drops_and_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made, store = journal(tmp_path, segment_bytes=2 * LINE, max_bytes=4 * LINE, max_in_memory=3), Store()
    with caplog.at_level(logging.ERROR, logger="farthing.ledger"):
        for _ in range(20):
            made.record(entry())
    assert (len(made._memory), made.dropped) == (3, 13)
    assert sum(path.stat().st_size for path in files(tmp_path)) == 4 * LINE
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, "not one for each entry"
    assert ["dropped: 0" in line for line in said] == [True, False], "when the disk refuses, and when entries begin to be lost"
    assert await drained(made, store) == 7
    made.record(entry())
    assert await drained(made, store) == 1, "it goes on when there is room again"


async def test_a_batch_that_was_stored_but_not_marked_is_sent_again_and_stored_once(tmp_path: Path) -> None:
    store = Store()
    made = journal(tmp_path)
    for _ in range(3):
        made.record(entry())
    await store.append(made._segments[0].lines(1000)[0])  # as if killed between the store and the mark
    made.close()
    assert await journal(tmp_path).adopt(store, 1000) == 3
    assert len(store.ids) == 3


async def test_what_is_left_at_the_end_is_adopted_at_the_next_start(tmp_path: Path) -> None:
    first, store = journal(tmp_path), Store()
    for _ in range(5):
        first.record(entry())
    first.close()
    second = journal(tmp_path)
    assert await second.adopt(store, 2) == 5
    assert store.batches == [2, 2, 1]
    assert files(tmp_path) == []


async def test_the_file_of_a_living_worker_is_left_alone(tmp_path: Path) -> None:
    living, store = journal(tmp_path), Store()
    living.record(entry())
    assert await journal(tmp_path).adopt(store, 1000) == 0
    assert await living.adopt(store, 1000) == 0
    assert len(files(tmp_path)) == 1
    assert await drained(living, store) == 1


async def test_adopting_while_the_store_is_away_loses_nothing(tmp_path: Path) -> None:
    first, store = journal(tmp_path), Store()
    first.record(entry())
    first.close()
    store.away = True
    second = journal(tmp_path)
    with pytest.raises(Unavailable):
        await second.adopt(store, 1000)
    store.away = False
    assert await second.adopt(store, 1000) == 1


async def test_two_workers_may_find_the_same_dead_one(tmp_path: Path) -> None:
    dead, store = journal(tmp_path), Store()
    for _ in range(50):
        dead.record(entry())
    dead.close()
    found = await asyncio.gather(*(journal(tmp_path).adopt(store, 7) for _ in range(4)))
    assert sorted(found) == [0, 0, 0, 50]
    assert len(store.ids) == 50


@pytest.mark.parametrize(
    ("tail", "aside"), [(b'{"id":"0199', 1), (b"\x00\x00", 0), (b"\x00" * 3_000_000, 0), (b"{" * 2_000_000, 2), (b"\xff\xfe", 1)]
)
async def test_a_torn_end_is_set_aside_and_counted(tmp_path: Path, tail: bytes, aside: int, caplog: pytest.LogCaptureFixture) -> None:
    (path,) = left_by_a_dead_worker(tmp_path)
    path.write_bytes(path.read_bytes() + tail)
    second, store = journal(tmp_path), Store()
    assert await second.adopt(store, 1000) == 3
    assert second.rejected == aside
    assert ("was damaged when its writer died" in caplog.text) == bool(aside)
    assert files(tmp_path) == []
    if aside:
        assert (tmp_path / "rejected.log").read_bytes().replace(b"\n", b"") == tail


def left_by_a_dead_worker(tmp_path: Path, entries: int = 3) -> list[Path]:
    dead = journal(tmp_path)
    for _ in range(entries):
        dead.record(entry())
    dead.close()
    return files(tmp_path)


async def test_what_a_power_cut_left_whole_is_stored_and_the_rest_set_aside(tmp_path: Path) -> None:
    """NULs in place of a page, a half line that runs into a whole one, a whole line behind NULs, more NULs than are read at once."""
    (path,) = left_by_a_dead_worker(tmp_path, 5)
    first, half, second, third, last = path.read_bytes().splitlines()
    broken = [first, half[:40] + second, b"\0" * 5000 + third, half[:30] + b"\0" * 3_000_000, b"", last, half[50:]]
    path.write_bytes(b"\n".join(broken) + b"\n")
    made, store = journal(tmp_path), Store()
    assert await made.adopt(store, 2) == 4
    assert store.ids == [msgspec.json.decode(line)["id"] for line in (first, second, third, last)]
    assert made.rejected == 3
    aside = (tmp_path / "rejected.log").read_bytes()
    assert half[:40] in aside
    assert half[50:] in aside


def salvaged(path: Path, most: int) -> tuple[list[bytes], list[bytes]]:
    """All lines and all pieces of a file, read to its end."""
    lines: list[bytes] = []
    pieces: list[bytes] = []
    at = 0
    with path.open("rb") as file:
        while (read := salvage.read(file.fileno(), at, most)).end > at:
            assert len(read.lines) <= most
            lines += read.lines
            pieces += read.damaged
            at = read.end
    assert at == path.stat().st_size
    return lines, pieces


def three_lines() -> list[bytes]:
    return [msgspec.json.encode(entry()) for _ in range(3)]


@hypothesis.given(cut=st.integers(0, 3 * LINE), start=st.integers(0, 3 * LINE), noise=st.binary(max_size=300), most=st.integers(1, 4))
@hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_whatever_is_in_a_file_reading_it_ends_and_loses_nothing(tmp_path: Path, cut: int, start: int, noise: bytes, most: int) -> None:
    whole = b"\n".join(three_lines()) + b"\n"
    path = tmp_path / "damaged"
    path.write_bytes(whole[:start] + noise + whole[cut:])
    lines, pieces = salvaged(path, most)
    for line in lines:
        msgspec.json.decode(line, type=LedgerEntry)
    untouched = {line for line in whole[:start].splitlines(keepends=True) if line.endswith(b"\n")}
    assert {line.rstrip(b"\n") for line in untouched} <= set(lines)
    # Every byte is in a line or in a piece, but for line breaks and NULs.
    bare = path.read_bytes().translate(None, b"\0\n")
    assert sorted(b"".join([*lines, *pieces]).translate(None, b"\0\n")) == sorted(bare)


@hypothesis.given(
    holes=st.lists(st.tuples(st.integers(0, 3 * LINE), st.integers(0, 2 * LINE)), max_size=3),
    end=st.integers(0, 3 * LINE),
    torn=st.integers(0, LINE - 2),
    most=st.integers(1, 4),
)
@hypothesis.settings(max_examples=100, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_what_a_crash_leaves_of_a_file_yields_no_entry_that_was_not_written(
    tmp_path: Path, holes: list[tuple[int, int]], end: int, torn: int, most: int
) -> None:
    """Runs of NULs, a line that was cut short before whole ones, and an end cut off, all at any place."""
    written = three_lines()
    data = bytearray(b"\n".join([*written[:2], written[0][:torn] + written[2]]) + b"\n")
    for at, length in holes:
        data[at : at + length] = bytes(len(data[at : at + length]))
    path = tmp_path / "crashed"
    path.write_bytes(data[:end])
    lines, _ = salvaged(path, most)
    assert set(lines) <= set(written)
    assert len(set(lines)) == len(lines)


async def test_what_is_set_aside_is_counted_once_however_often_the_store_is_tried(tmp_path: Path) -> None:
    (path,) = left_by_a_dead_worker(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"id":"0199')
    made, store = journal(tmp_path), Store()
    poison = entry(model_asked="a\0b")
    made.record(entry())
    made.record(poison)
    store.away = True
    for _ in range(5):
        with pytest.raises(Unavailable):
            await made.adopt(store, 1000)
        with pytest.raises(Unavailable):
            await made.flush(store, 1000)
    assert made.rejected == 0
    store.during = lambda: setattr(store, "away", len(store.batches) == 1)  # it goes away again between the halves of a batch
    store.away = False
    with pytest.raises(Unavailable):
        await drained(made, store)
    store.during = lambda: None
    store.away = False
    await drained(made, store)
    await made.adopt(store, 1000)
    assert len(store.ids) == 4
    assert made.rejected == 2


async def test_a_file_that_cannot_be_opened_holds_up_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    left_by_a_dead_worker(tmp_path)
    (tmp_path / "0.jsonl").mkdir()  # also root cannot write to it
    made, store = journal(tmp_path), Store()
    assert await made.adopt(store, 1000) == 3
    assert await made.adopt(store, 1000) == 0
    assert caplog.text.count("cannot be opened, what is in it is not in the ledger") == 1


async def test_trouble_with_the_files_of_the_dead_does_not_hold_up_the_living(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by_a_dead_worker(tmp_path)
    made, store = journal(tmp_path), Store()
    made.record(entry())
    monkeypatch.setattr(salvage, "read", no_room)  # an error of the disk
    task = asyncio.ensure_future(Pump(made, store, interval_s=0.001, max_batch=10).run())
    async with asyncio.timeout(5):
        while len(store.ids) < 1:  # noqa: ASYNC110 - the pump tells nobody
            await asyncio.sleep(0.001)
    task.cancel()


async def test_entries_of_a_full_disk_go_to_it_in_order_when_it_has_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, store = journal(tmp_path), Store()
    real = os.write
    entries = [entry() for _ in range(6)]
    made.record(entries[0])
    monkeypatch.setattr(os, "write", no_room)
    for one in entries[1:4]:
        made.record(one)
    assert len(made._memory) == 3
    monkeypatch.setattr(os, "write", real)
    made.record(entries[4])
    assert len(made._memory) == 0
    monkeypatch.setattr(os, "write", no_room)
    made.record(entries[5])
    await drained(made, store)
    assert store.ids == [str(one.id) for one in entries]


async def test_an_entry_recorded_while_those_in_memory_are_sent_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, store = journal(tmp_path), Store()
    late = [entry(), entry()]
    monkeypatch.setattr(os, "write", no_room)
    first = entry()
    made.record(first)

    def while_sending() -> None:
        monkeypatch.undo()  # the disk has room again, in the middle of it
        if late:
            made.record(late.pop(0))

    store.during = while_sending
    await drained(made, store)
    made.close()
    await journal(tmp_path).adopt(store, 1000)
    assert len(store.ids) == 3
    assert made.dropped == 0


def no_room(*_: object) -> int:
    raise OSError(28, "No space left on device")


async def test_what_is_synced_is_on_the_disk_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, store = journal(tmp_path), Store()
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    await made.sync()
    assert synced == []
    made.record(entry())
    await made.sync()
    await made.sync()
    assert len(synced) == 1
    await drained(made, store)
    made.record(entry())
    await made.sync()
    assert len(synced) == 2


async def test_a_poison_entry_is_set_aside_and_the_others_arrive(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made, store = journal(tmp_path), Store()
    good = [entry() for _ in range(4)]
    poison = entry(model_asked="a\0b")
    for one in (*good[:2], poison, *good[2:]):
        made.record(one)
    await drained(made, store)
    assert store.ids == [str(one.id) for one in good]
    assert msgspec.json.decode((tmp_path / "rejected.log").read_bytes(), type=LedgerEntry) == poison
    assert "cannot be stored" in caplog.text
    assert made.backlog_bytes == 0


async def test_a_line_that_is_not_json_is_poison_too(tmp_path: Path) -> None:
    dead, store = journal(tmp_path), Store()
    dead.record(entry())
    dead.close()
    (path,) = files(tmp_path)
    path.write_bytes(b"garbage\n\n" + path.read_bytes())
    await journal(tmp_path).adopt(store, 1000)
    assert len(store.ids) == 1
    assert (tmp_path / "rejected.log").read_bytes().startswith(b"garbage\n")


def test_a_file_taken_away_before_it_was_locked_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker can find a new file between its creation and its lock, take it for a dead worker's, and remove it."""
    real = os.open

    def raced(path: Path, *rest: int) -> int:
        fd = real(path, *rest)
        path.unlink()
        return fd

    monkeypatch.setattr(os, "open", raced)
    with pytest.raises(FileNotFoundError):
        Segment.create(tmp_path, "w")
    made = journal(tmp_path)
    made.record(entry())
    assert len(made._memory) == 1
    monkeypatch.undo()
    made.record(entry())
    assert len(files(tmp_path)) == 1


async def test_a_vanished_folder_costs_nothing_but_durability(tmp_path: Path) -> None:
    made, store = journal(tmp_path / "ledger"), Store()
    (tmp_path / "ledger").rmdir()
    made.record(entry())
    assert await drained(made, store) == 1


def said_before_the_kill(path: Path, segment_bytes: int) -> list[str]:
    """Ids that a writer process had recorded when it was killed."""
    command = [sys.executable, "-c", _WRITER, str(path), str(segment_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline().strip() for _ in range(200)]
        writer.kill()
        return said + [line.strip() for line in writer.stdout if line.endswith("\n")]


@pytest.mark.parametrize("segment_bytes", [10**6, 4096])
async def test_a_killed_writer_loses_nothing_that_it_recorded(tmp_path: Path, segment_bytes: int) -> None:
    said = said_before_the_kill(tmp_path, segment_bytes)
    store = Store()
    await journal(tmp_path).adopt(store, 64)
    assert set(said) <= set(store.ids)
    assert len(store.ids) - len(said) <= 1, "at most one was recorded and not yet said"
    assert files(tmp_path) == []


def on_a_small_disk(path: Path) -> tuple[int, int, int]:
    """Lines on disk, entries dropped and bytes owed of a process that recorded 30 entries where 5,000 bytes fit."""
    done = subprocess.run([sys.executable, "-c", _SMALL_DISK, str(path)], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    on_disk, dropped, backlog = map(int, done.stdout.split())
    return on_disk, dropped, backlog


async def test_a_full_disk_keeps_whole_lines_then_memory_then_counts(tmp_path: Path) -> None:
    on_disk, dropped, backlog = on_a_small_disk(tmp_path)
    assert on_disk > 3
    assert on_disk + 7 + dropped == 30
    assert backlog >= on_disk * (LINE - 1)
    store = Store()
    assert await journal(tmp_path).adopt(store, 1000) == on_disk


async def test_the_pump_moves_entries_adopts_files_and_outlives_an_outage(tmp_path: Path) -> None:
    dead = journal(tmp_path)
    dead.record(entry())
    dead.close()
    made, store = journal(tmp_path), Store()
    store.away = True
    pump = Pump(made, store, interval_s=0.001, max_batch=10)
    task = asyncio.ensure_future(pump.run())
    async with asyncio.timeout(5):
        while not pump.store_away:  # noqa: ASYNC110 - the pump tells nobody
            await asyncio.sleep(0.001)
        made.record(entry())
        store.away = False
        while len(store.ids) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        while pump.store_away:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        made.record(entry())
        while len(store.ids) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    task.cancel()
    assert len(set(store.ids)) == 3


async def test_the_pump_outlives_a_bug_in_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Buggy(Store):
        async def append(self, entries: Sequence[bytes]) -> int:
            raise ZeroDivisionError(entries)

    made = journal(tmp_path)
    made.record(entry())
    task = asyncio.ensure_future(Pump(made, Buggy(), interval_s=0.001, max_batch=10).run())
    async with asyncio.timeout(5):
        while "stumbled" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert not task.done()
    task.cancel()
    assert made.backlog_bytes == LINE


async def test_a_store_that_refuses_all_does_not_stop_the_journal(tmp_path: Path) -> None:
    class Refusing(Store):
        async def append(self, entries: Sequence[bytes]) -> int:
            raise InvalidRequest(f"none of {len(entries)}")

    made = journal(tmp_path)
    for _ in range(3):
        made.record(entry())
    await drained(made, Refusing())
    assert (tmp_path / "rejected.log").read_bytes().count(b"\n") == 3
    assert made.backlog_bytes == 0
