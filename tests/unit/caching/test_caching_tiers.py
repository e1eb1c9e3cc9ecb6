from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.entry import Entry, pack, unpack
from farthing.caching.memory import MemoryTier
from farthing.caching.shared import SharedTier
from farthing.cipher import Cipher
from farthing.errors import InvalidRequest, Unavailable
from farthing.inprocess.stores import InProcessAnswers, InProcessChanges
from farthing.settings import ExactCacheSettings
from farthing.types import CacheScope, Extras, StoredAnswer, utc_now


def entry(size: int = 500, *, expires: float | None = None, model: str = "m") -> Entry:
    tail = b"x" * (size - 400)
    return Entry(model=model, object=None, tail=tail, chunks=None, cost_microusd=7, expires=expires or time.time() + 60)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


# Memory


def test_memory_keeps_what_is_put_until_it_expires() -> None:
    tier = MemoryTier(10_000)
    one = entry()
    tier.put(key(1), one)
    assert tier.get(key(1)) is one
    assert tier.get(key(2)) is None
    tier.put(key(1), entry(expires=time.time() - 1))
    assert tier.get(key(1)) is None
    assert (len(tier), tier.bytes) == (0, 0)


def test_what_was_not_used_for_longest_goes_first() -> None:
    tier = MemoryTier(1500)
    for number in (1, 2, 3):
        tier.put(key(number), entry(500))
    assert tier.get(key(1))
    tier.put(key(4), entry(500))
    assert [number for number in (1, 2, 3, 4) if tier.get(key(number))] == [1, 3, 4]


def test_what_is_larger_than_the_tier_is_not_kept_and_replaces_what_was_there() -> None:
    tier = MemoryTier(1000)
    tier.put(key(1), entry(500))
    tier.put(key(2), entry(500))
    tier.put(key(1), entry(1001))
    assert tier.get(key(1)) is None, "an older answer under a refreshed key would be stale"
    assert tier.get(key(2)) is not None


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "drop"]), st.integers(0, 6), st.integers(400, 1500)), max_size=60))
def test_memory_never_holds_more_than_its_bound(steps: list[tuple[str, int, int]]) -> None:
    tier = MemoryTier(2000)
    for what, number, size in steps:
        if what == "put":
            tier.put(key(number), entry(size))
            assert size > 2000 or tier.get(key(number)) is not None
        elif what == "get":
            tier.get(key(number))
        else:
            tier.drop(key(number))
        assert tier.bytes == sum(one.size for one in tier._entries.values()) <= 2000


# The shared tier


class Store(InProcessAnswers):
    """The real in-process store, which can be away, slow or fussy."""

    def __init__(self) -> None:
        super().__init__(InProcessChanges())
        self.away = False
        self.stuck = False
        self.silent = False
        self.fussy = False
        self.batches: list[int] = []
        self.pruned = asyncio.Event()

    async def get(self, tenant: str, key: bytes) -> StoredAnswer | None:
        if self.stuck:
            await asyncio.Event().wait()
        if self.away:
            raise Unavailable("away")
        return await super().get(tenant, key)

    async def put(self, entries: Sequence[StoredAnswer]) -> None:
        if self.away:
            raise Unavailable("away")
        if self.fussy:
            raise InvalidRequest("no")
        self.batches.append(len(entries))
        await super().put(entries)

    async def keys(self, limit: int) -> list[bytes]:
        if self.silent:
            await asyncio.Event().wait()
        if self.away:
            raise Unavailable("away")
        return await super().keys(limit)

    async def prune(self, max_rows: int) -> int:
        self.pruned.set()
        return await super().prune(max_rows)


def tier(store: Store, **more: float) -> SharedTier:
    return SharedTier(store, ExactCacheSettings.model_validate({"read_timeout_s": 0.05, **more}))


@given(
    st.builds(
        Entry,
        model=st.text(max_size=5),
        object=st.none() | st.text(max_size=5),
        tail=st.binary(max_size=20),
        chunks=st.none() | st.binary(max_size=20),
        cost_microusd=st.integers(0, 2**60),
        expires=st.floats(0, 4e9),
    )
)
def test_an_entry_survives_the_journey(one: Entry) -> None:
    assert unpack(pack(one)) == one


@given(st.binary(max_size=40))
def test_what_another_version_wrote_is_a_miss(payload: bytes) -> None:
    found = unpack(payload)
    assert found is None or isinstance(found, Entry)


async def test_an_answer_written_is_found_by_its_tenant_only() -> None:
    store = Store()
    shared = tier(store)
    one = entry()
    shared.put("acme", Extras(), key(1), one)
    assert not shared.has(key(1)), "not there before it is written"
    await shared.drain()
    assert shared.has(key(1))
    assert await shared.get("acme", key(1)) == one
    assert await shared.get("other", key(1)) is None


async def test_an_answer_that_was_asked_for_before_its_user_was_forgotten_is_not_stored() -> None:
    """However late it comes: the model may have taken its time."""
    store = Store()
    shared = tier(store)
    before = utc_now()
    await store.forget("acme", CacheScope(user_id="ann"))
    for number, user, arrived in ((1, "ann", before), (2, "ann", utc_now()), (3, "bob", before), (4, None, before)):
        shared.put("acme", Extras(), key(number), entry(), user, arrived)
    await shared.drain()
    assert [await store.get("acme", key(number)) is not None for number in (1, 2, 3, 4)] == [False, True, True, True]


async def test_a_new_worker_learns_what_is_there() -> None:
    store = Store()
    first = tier(store)
    first.put("acme", Extras(), key(1), entry())
    await first.drain()
    second = tier(store)
    assert not second.has(key(1))
    await second.reload()
    assert second.has(key(1))
    second.learn([key(2)])
    assert second.has(key(2))


@pytest.mark.parametrize("trouble", ["none", "away", "silent"])
async def test_a_start_waits_to_learn_what_is_there_but_not_for_long(trouble: str) -> None:
    store = Store()
    earlier, later = tier(store), tier(store)
    earlier.put("acme", Extras(), key(1), entry())
    await earlier.drain()
    store.away, store.silent = trouble == "away", trouble == "silent"
    keeping = asyncio.create_task(later.keep_up(0.01, first_word_s=60 if trouble == "none" else 0.05))
    assert not later.asked
    await until(lambda: later.asked)
    assert later.has(key(1)) == (trouble == "none")
    store.away = False
    if trouble != "silent":
        await until(lambda: later.has(key(1)))
    keeping.cancel()


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not look():  # noqa: ASYNC110 - what is looked for does not tell
            await asyncio.sleep(0.001)


async def test_a_key_whose_answer_is_gone_is_forgotten() -> None:
    shared = tier(Store())
    shared.learn([key(1)])
    assert await shared.get("acme", key(1)) is None
    assert not shared.has(key(1))


async def test_an_answer_of_another_version_is_a_miss_and_forgotten() -> None:
    store = Store()
    shared = tier(store)
    shared.put("acme", Extras(), key(1), entry())
    await shared.drain()
    (stored,) = store._entries.values()
    store._entries[("acme", key(1))] = StoredAnswer(**{**{f: getattr(stored, f) for f in stored.__struct_fields__}, "payload": b"\x90"})
    assert await shared.get("acme", key(1)) is None
    assert not shared.has(key(1))


@pytest.mark.parametrize("trouble", ["away", "stuck"])
async def test_a_store_that_is_away_or_slow_is_a_miss(trouble: str) -> None:
    store = Store()
    shared = tier(store)
    shared.put("acme", Extras(), key(1), entry())
    await shared.drain()
    setattr(store, trouble, True)
    assert await shared.get("acme", key(1)) is None
    setattr(store, trouble, False)
    assert await shared.get("acme", key(1)) is not None, "and it is remembered for when the store is back"


async def test_the_queue_is_bounded_and_what_finds_it_full_is_counted() -> None:
    store = Store()
    shared = tier(store, write_queue=3)
    for number in range(10):
        shared.put("acme", Extras(), key(number), entry())
    assert shared.dropped == 7
    await shared.drain()
    assert store.batches == [3]


async def test_keys_that_a_worker_remembers_are_bounded_oldest_first() -> None:
    shared = tier(Store(), max_known_keys=3)
    shared.learn([key(number) for number in range(5)])
    assert [shared.has(key(number)) for number in range(5)] == [False, False, True, True, True]


async def test_what_a_store_that_is_away_did_not_take_stays_in_the_queue() -> None:
    store = Store()
    shared = tier(store)
    shared.put("acme", Extras(), key(1), entry())
    store.away = True
    with pytest.raises(Unavailable):
        await shared.drain()
    assert not shared.has(key(1))
    store.away = False
    await shared.drain()
    assert shared.has(key(1))


async def test_an_answer_that_can_never_be_stored_does_not_hold_up_the_others() -> None:
    store = Store()
    shared = tier(store)
    store.fussy = True
    shared.put("acme", Extras(), key(1), entry())
    await shared.drain()
    assert shared.dropped == 1
    store.fussy = False
    shared.put("acme", Extras(), key(2), entry())
    await shared.drain()
    assert shared.has(key(2))


async def test_the_writer_writes_prunes_and_outlives_an_outage() -> None:
    store = Store()
    shared = tier(store)
    task = asyncio.ensure_future(shared.run())
    async with asyncio.timeout(5):
        await store.pruned.wait()
        shared.put("acme", Extras(), key(1), entry())
        while not shared.has(key(1)):  # noqa: ASYNC110 - the writer tells nobody
            await asyncio.sleep(0.005)
        store.away = True
        shared.put("acme", Extras(), key(2), entry())
        await asyncio.sleep(0.1)
        store.away = False
        while not shared.has(key(2)):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert not task.done()
    task.cancel()


async def test_with_a_key_answers_are_sealed_in_the_store_and_those_from_before_still_serve() -> None:
    store = Store()
    plain = tier(store)
    one, two = entry(), entry(600)
    plain.put("acme", Extras(), key(1), one)
    await plain.drain()
    settings = ExactCacheSettings.model_validate({"read_timeout_s": 0.05})
    sealed = SharedTier(store, settings, Cipher(b"k" * 32))
    sealed.put("acme", Extras(), key(2), two)
    await sealed.drain()
    found = [await store.get("acme", key(number)) for number in (1, 2)]
    assert [b"xxxx" in stored.payload for stored in found if stored] == [True, False]
    assert [await sealed.get("acme", key(number)) for number in (1, 2)] == [one, two]
    rotated = SharedTier(store, settings, Cipher(b"n" * 32, [b"k" * 32]))
    assert await rotated.get("acme", key(2)) == two
    for stranger in (plain, SharedTier(store, settings, Cipher(b"n" * 32))):
        assert await stranger.get("acme", key(2)) is None, "under a key that is lost it is a miss"


async def test_an_answer_that_waits_while_its_tenant_is_flushed_is_not_stored() -> None:
    store = Store()
    shared = tier(store)
    for tenant in ("acme", "rival"):
        shared.put(tenant, Extras(), key(1), entry())
    await store.forget("acme")
    await shared.drain()
    assert await store.get("acme", key(1)) is None
    assert await store.get("rival", key(1)) is not None
