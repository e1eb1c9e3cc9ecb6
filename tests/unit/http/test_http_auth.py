from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import KeyInUrl, Unauthenticated, Unavailable
from farthing.http.auth import KeyRing, bearer, digest_of, new_key
from farthing.inprocess.stores import InProcessChanges, InProcessKeys
from farthing.settings import KeySettings
from farthing.types import KeyRecord, new_id, utc_now


class Store(InProcessKeys):
    """The in-process store, which can be away or stuck, and counts look-ups."""

    def __init__(self) -> None:
        super().__init__(InProcessChanges())
        self.away = self.stuck = False
        self.looked_up = 0
        self.looking = self.most_looking = 0

    async def find(self, digest: bytes) -> KeyRecord | None:
        self.looked_up += 1
        self.looking += 1
        self.most_looking = max(self.most_looking, self.looking)
        try:
            await asyncio.sleep(0)
            if self.stuck:
                await asyncio.Event().wait()
            if self.away:
                raise Unavailable("away")
            return await super().find(digest)
        finally:
            self.looking -= 1

    async def all(self, limit: int) -> list[KeyRecord]:
        if self.away:
            raise Unavailable("away")
        return await super().all(limit)


async def issued(store: Store, **more: Any) -> tuple[str, KeyRecord]:
    """A fresh key and its record, in the store."""
    key = new_key()
    facts = {"tenant": "acme", "digest": digest_of(key), "hint": key[-4:], "created_at": utc_now(), **more}
    record = KeyRecord(id=new_id(), **facts)
    await store.add(record)
    return key, record


def ring(store: Store, **more: Any) -> KeyRing:
    return KeyRing(store, KeySettings.model_validate(more))


def scope(*headers: tuple[str, str], query: bytes = b"") -> dict[str, Any]:
    return {"query_string": query, "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers]}


def refusal(awaitable_error: pytest.ExceptionInfo[Unauthenticated]) -> str:
    assert awaitable_error.value.status == 401
    return awaitable_error.value.message


# The key of a request


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("authorization", "Bearer fk-1")], "fk-1"),
        ([("authorization", "bearer   fk-1  ")], "fk-1"),
        ([("x-api-key", "fk-2")], "fk-2"),
        ([("x-api-key", "fk-2"), ("authorization", "Bearer fk-1")], "fk-1"),
        ([("authorization", "Bearer fk-1"), ("authorization", "Bearer fk-9")], "fk-1"),
    ],
)
def test_the_key_is_in_the_headers(headers: list[tuple[str, str]], expected: str) -> None:
    assert bearer(scope(*headers)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic abc")],
        [("x-api-key", "")],
    ],
)
def test_no_key_is_refused_with_the_way_to_send_one(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(Unauthenticated, match="Bearer KEY") as caught:
        bearer(scope(*headers))
    refusal(caught)


@pytest.mark.parametrize(
    "query",
    [
        b"api_key=x",
        b"a=1&api-key=x",
        b"key=x",
        b"API_KEY=x",
        b"access_token=x",
        b"token=x",
        b"authorization=Bearer",
        b"x=fk-abcdefgh12",
        b"q=sk-abcdefgh12",
    ],
)
def test_a_key_in_the_url_is_refused_even_beside_a_good_one(query: bytes) -> None:
    with pytest.raises(KeyInUrl) as caught:
        bearer(scope(("authorization", "Bearer fk-1"), query=query))
    assert (caught.value.status, caught.value.code) == (400, "key_in_url")
    assert "abcdefgh" not in caught.value.message


@pytest.mark.parametrize("query", [b"since=24h&by=key", b"limit=10", b"tenant=fk-short", b"user=monkey"])
def test_other_parameters_are_no_keys(query: bytes) -> None:
    assert bearer(scope(("authorization", "Bearer fk-1"), query=query)) == "fk-1"


# Who is behind it


async def test_a_good_key_is_its_principal() -> None:
    store = Store()
    key, record = await issued(store, user="ann", tier="pro", admin=True, models=("fast",))
    keys = ring(store)
    await keys.reload()
    who = await keys.authenticate(key)
    assert (who.key_id, who.tenant, who.user, who.tier, who.admin, who.models) == (
        record.id,
        "acme",
        "ann",
        "pro",
        True,
        frozenset({"fast"}),
    )
    assert store.looked_up == 0


async def test_only_the_digest_is_kept() -> None:
    store = Store()
    key, record = await issued(store)
    assert key.encode() not in msgspec.msgpack.encode(record)
    assert record.digest == hashlib.sha256(key.encode()).digest()
    assert len(key) > 40


async def test_a_key_made_by_another_worker_is_looked_up_once() -> None:
    store = Store()
    keys = ring(store)
    await keys.reload()
    key, _ = await issued(store)
    for _ in range(3):
        assert (await keys.authenticate(key)).tenant == "acme"
    assert store.looked_up == 1


async def test_an_unknown_key_is_refused_and_not_looked_up_again() -> None:
    store = Store()
    keys = ring(store)
    await keys.reload()
    for _ in range(5):
        with pytest.raises(Unauthenticated) as caught:
            await keys.authenticate("fk-" + "x" * 40 + "tail")
        assert refusal(caught) == "The API key …tail is not known here."
    assert store.looked_up == 1


async def test_what_is_unknown_is_asked_again_after_a_refresh() -> None:
    store = Store()
    keys = ring(store)
    await keys.reload()
    key = new_key()
    with pytest.raises(Unauthenticated):
        await keys.authenticate(key)
    record = KeyRecord(id=new_id(), tenant="late", digest=digest_of(key), hint="", created_at=utc_now())
    await store.add(record)
    await keys.reload()
    assert (await keys.authenticate(key)).tenant == "late"


@pytest.mark.parametrize("key", ["", "short", "sk-" + "x" * 40, "fk-" + "x" * 300, "fk-ünïcode" + "x" * 30, "x" * 10**6])
async def test_a_strange_key_is_refused_without_being_shown(key: str) -> None:
    store = Store()
    keys = ring(store)
    await keys.reload()
    with pytest.raises(Unauthenticated) as caught:
        await keys.authenticate(key)
    assert len(refusal(caught)) < 100
    assert not key or key not in refusal(caught)


async def test_keys_too_long_to_be_ours_are_not_even_looked_up() -> None:
    store = Store()
    keys = ring(store)
    for key in ("x" * 257, "é" * 10):
        with pytest.raises(Unauthenticated):
            await keys.authenticate(key)
    assert store.looked_up == 0


async def test_a_revoked_key_stops_at_the_next_refresh() -> None:
    store = Store()
    key, record = await issued(store)
    keys = ring(store)
    await keys.reload()
    await store.revoke(record.id, utc_now())
    await keys.reload()
    with pytest.raises(Unauthenticated, match="revoked"):
        await keys.authenticate(key)


async def test_a_key_that_was_revoked_before_it_was_looked_up_is_refused() -> None:
    store = Store()
    keys = ring(store)
    await keys.reload()
    key, record = await issued(store)
    await store.revoke(record.id, utc_now())
    with pytest.raises(Unauthenticated, match="revoked"):
        await keys.authenticate(key)


@pytest.mark.parametrize(("seconds", "good"), [(60, True), (-60, False)])
async def test_a_key_expires_at_its_time(seconds: int, good: bool) -> None:  # noqa: FBT001 - a table
    store = Store()
    key, _ = await issued(store, expires_at=utc_now() + timedelta(seconds=seconds))
    keys = ring(store)
    await keys.reload()
    if good:
        assert (await keys.authenticate(key)).tenant == "acme"
        return
    with pytest.raises(Unauthenticated, match="expired"):
        await keys.authenticate(key)


async def test_the_clock_refreshes_and_outlives_an_outage() -> None:
    store = Store()
    keys = ring(store, refresh_s=0.01)
    store.away = True
    task = asyncio.ensure_future(keys.run())
    await asyncio.sleep(0.03)
    assert not keys.loaded
    store.away = False
    key, _ = await issued(store)
    async with asyncio.timeout(5):
        while not keys.loaded:  # noqa: ASYNC110 - the ring tells nobody
            await asyncio.sleep(0.005)
    store.stuck = True
    assert (await keys.authenticate(key)).tenant == "acme"
    task.cancel()


async def test_while_the_store_is_away_the_last_snapshot_counts() -> None:
    store = Store()
    key, _ = await issued(store)
    keys = ring(store)
    await keys.reload()
    store.away = True
    with pytest.raises(Unavailable):
        await keys.reload()
    assert (await keys.authenticate(key)).tenant == "acme"
    with pytest.raises(Unauthenticated):
        await keys.authenticate(new_key())


async def test_before_the_first_snapshot_a_store_that_is_away_is_our_fault() -> None:
    store = Store()
    store.away = True
    with pytest.raises(Unavailable) as caught:
        await ring(store).authenticate(new_key())
    assert caught.value.retry_after_s


async def test_look_ups_are_few_at_a_time_and_end() -> None:
    store = Store()
    keys = ring(store)
    await issued(store)
    await keys.reload()
    store.stuck = True
    async with asyncio.timeout(5):
        found = await asyncio.gather(*(keys.authenticate(new_key()) for _ in range(50)), return_exceptions=True)
    assert {type(one) for one in found} == {Unauthenticated}
    assert store.most_looking <= 4
    assert store.looking == 0


async def test_unknown_keys_that_are_remembered_are_bounded() -> None:
    store = Store()
    keys = ring(store)
    await keys.reload()
    for at in range(10_050):
        with pytest.raises(Unauthenticated):
            await keys.authenticate(f"guess-{at}")
    assert len(keys._unknown) == 10_000


@given(st.text(st.characters(max_codepoint=255), max_size=40))
async def test_any_key_is_somebody_or_refused(key: str) -> None:
    keys = ring(Store())
    with pytest.raises(Unauthenticated):
        await keys.authenticate(key)


async def test_what_belongs_to_a_key_is_read_before_it_opens_anything() -> None:
    """Else the first requests of a new key, on a worker that has not heard of its budget, would spend without one."""
    store = Store()
    seen: list[str] = []

    async def before_use() -> None:
        seen.append("its budget")

    keys = KeyRing(store, KeySettings(), before_use=before_use)
    await keys.reload()
    key, _ = await issued(store)
    seen.clear()
    assert (await keys.authenticate(key)).tenant == "acme"
    assert seen == ["its budget"]
