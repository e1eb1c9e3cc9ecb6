"""Keys on disk: a start without the store goes by them, and no longer than until the store has the word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from farthing.errors import Unauthenticated, Unavailable
from farthing.http import auth
from farthing.http.auth import KeyRing, digest_of, new_key
from farthing.inprocess.stores import InProcessChanges, InProcessKeys
from farthing.settings import KeySettings
from farthing.snapshot import Snapshot
from farthing.types import KeyRecord, new_id, utc_now


class Store(InProcessKeys):
    """The in-process store, which can be away, or hang until `go` is set."""

    def __init__(self) -> None:
        super().__init__(InProcessChanges())
        self.away = False
        self.go = asyncio.Event()
        self.go.set()

    async def all(self, limit: int) -> list[KeyRecord]:
        await self._answers()
        return await super().all(limit)

    async def find(self, digest: bytes) -> KeyRecord | None:
        await self._answers()
        return await super().find(digest)

    async def _answers(self) -> None:
        await self.go.wait()
        if self.away:
            raise Unavailable("away")


def record(key: str, **more: object) -> KeyRecord:
    facts = {"id": new_id(), "tenant": "acme", "digest": digest_of(key), "hint": key[-4:], "created_at": utc_now(), **more}
    return KeyRecord(**facts)  # type: ignore[arg-type]  # a table


def on_disk(folder: Path) -> Snapshot[KeyRecord]:
    return Snapshot(folder, "keys", KeyRecord)


@asynccontextmanager
async def at_work(store: Store, folder: Path) -> AsyncIterator[KeyRing]:
    """A ring with its background work."""
    ring = KeyRing(store, KeySettings(refresh_s=0.01), on_disk(folder))
    tasks = [asyncio.create_task(ring.run()), asyncio.create_task(ring.save())]
    try:
        yield ring
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


def kept(folder: Path) -> set[bytes]:
    saved = on_disk(folder).read()
    return set() if saved is None else {one.digest for one in saved.records}


async def test_what_the_store_says_is_on_disk_soon(tmp_path: Path) -> None:
    store = Store()
    first, second = new_key(), new_key()
    await store.add(record(first))
    async with at_work(store, tmp_path):
        await until(lambda: kept(tmp_path) == {digest_of(first)})
        await store.add(record(second))
        await until(lambda: kept(tmp_path) == {digest_of(first), digest_of(second)})
    assert first.encode() not in on_disk(tmp_path).path.read_bytes()


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_start_without_the_store_goes_by_the_disk_until_the_store_speaks(
    tmp_path: Path,
    hangs: bool,  # noqa: FBT001 - a table
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auth, "_FIRST_WORD_S", 0.05)
    good, revoked, expired, since = (new_key() for _ in range(4))
    now = utc_now()
    known = [record(good), record(revoked, revoked_at=now), record(expired, expires_at=now - timedelta(seconds=1)), record(since)]
    on_disk(tmp_path).write(known)
    store = Store()
    for one in known[:3]:
        await store.add(one)  # `since` was taken out meanwhile
    store.away = not hangs
    if hangs:
        store.go.clear()
    async with at_work(store, tmp_path) as ring:
        await until(lambda: ring.loaded)
        assert not ring.confirmed
        assert (await ring.authenticate(good)).tenant == "acme"
        assert (await ring.authenticate(since)).tenant == "acme"
        for bad in (revoked, expired, new_key()):
            with pytest.raises(Unauthenticated):
                await ring.authenticate(bad)
        store.away = False
        store.go.set()
        await until(lambda: ring.confirmed)
        with pytest.raises(Unauthenticated):
            await ring.authenticate(since)
        assert (await ring.authenticate(good)).tenant == "acme"


async def test_the_store_has_the_first_word(tmp_path: Path) -> None:
    """A key that was taken out while the gateway was down opens nothing, not even at first."""
    gone = new_key()
    on_disk(tmp_path).write([record(gone)])
    store, left = Store(), record(new_key())
    await store.add(left)
    async with at_work(store, tmp_path) as ring:
        await until(lambda: ring.loaded)
        assert ring.confirmed
        with pytest.raises(Unauthenticated):
            await ring.authenticate(gone)
        await until(lambda: kept(tmp_path) == {left.digest})


async def test_a_store_without_any_key_is_asked_again_until_the_first_one_is_there(tmp_path: Path) -> None:
    """A worker of a new installation may be faster than the supervisor, which makes the admin's key."""
    store, first = Store(), new_key()
    async with at_work(store, tmp_path) as ring:
        await ring.reload()
        assert not ring.loaded
        await store.add(record(first))
        await until(lambda: ring.confirmed)
        assert (await ring.authenticate(first)).tenant == "acme"


async def test_with_a_damaged_file_and_no_store_callers_are_told_to_come_again(tmp_path: Path) -> None:
    key = new_key()
    on_disk(tmp_path).write([record(key)])
    path = on_disk(tmp_path).path
    path.write_bytes(path.read_bytes()[:-10])
    store = Store()
    store.away = True
    await store.add(record(key))
    async with at_work(store, tmp_path) as ring:
        with pytest.raises(Unavailable):
            await ring.authenticate(key)
        assert not ring.loaded
        store.away = False
        await until(lambda: ring.confirmed)
        assert (await ring.authenticate(key)).tenant == "acme"


async def test_a_disk_that_refuses_is_tried_again(tmp_path: Path) -> None:
    """What it holds may be a key that was revoked since."""
    store = Store()
    key = new_key()
    await store.add(record(key))
    folder = tmp_path / "snapshot"
    folder.write_text("a file where the folder must be")
    async with at_work(store, folder) as ring:
        await until(lambda: ring.confirmed)
        await asyncio.sleep(0.05)
        folder.unlink()
        await until(lambda: kept(folder) == {digest_of(key)})


async def test_what_changed_right_before_a_stop_is_on_disk(tmp_path: Path) -> None:
    """The background writes at a measured pace; a revocation in between must not be forgotten by a stop."""
    store = Store()
    first, second = new_key(), new_key()
    await store.add(record(first))
    async with at_work(store, tmp_path) as ring:
        await until(lambda: kept(tmp_path) == {digest_of(first)})
        await store.add(record(second))
        await ring.reload()
    await ring.close()
    assert kept(tmp_path) == {digest_of(first), digest_of(second)}
    written = on_disk(tmp_path).path.stat().st_mtime_ns
    await ring.close()
    assert on_disk(tmp_path).path.stat().st_mtime_ns == written
