"""What every adapter of the stores must do. Subclass the suites in a test module and give them a fixture `stores`.

    class TestMyKeys(KeyStoreContract): ...

    @pytest.fixture
    async def stores() -> AsyncIterator[Stores]: ...    # empty ones for each test, whose answers tell the time by `Stores.clock`

The stores may be of one adapter or of several; only `ChangesContract` wants that they tell each other.
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from farthing.budgets import settings_budget
from farthing.errors import InvalidRequest
from farthing.ports import CHANNELS, AnswerStore, BudgetStore, Changes, KeyStore, LedgerStore, ReportBy
from farthing.types import CacheScope, KeyRecord, LedgerEntry, Source, StoredAnswer, Totals, new_id, uuid7_at

_NEWS_S = 5.0
_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = _NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Stores(msgspec.Struct, frozen=True, kw_only=True):
    """The stores under test."""

    keys: KeyStore
    ledger: LedgerStore
    budgets: BudgetStore
    answers: AnswerStore
    changes: Changes
    clock: Clock


def key_record(seed: str, **facts: Any) -> KeyRecord:
    """A key that differs from those of other seeds."""
    digest = sha256(seed.encode()).digest()
    return KeyRecord(**{"id": new_id(), "tenant": "acme", "digest": digest, "hint": "abcd", "created_at": _NOON, **facts})


def ledger_entry(at: datetime = _NOON, **facts: Any) -> LedgerEntry:
    """A settled request that was answered by a model, at this time."""
    usual: dict[str, Any] = {
        "id": uuid7_at((at - _EPOCH) // timedelta(milliseconds=1), os.urandom(10)),
        "request_id": new_id(),
        "attempt": 1,
        "final": True,
        "tenant": "acme",
        "key_id": UUID(int=7),
        "user_id": None,
        "tier": "free",
        "operation": "chat",
        "source": Source.MODEL,
        "model_asked": "fast",
        "model_used": "fast",
        "provider": "openai",
        "upstream_model": "gpt-4o-mini",
        "tokens_in": 100,
        "tokens_out": 10,
        "price_source": "settings",
        "cost_microusd": 21,
    }
    return LedgerEntry(**{**usual, **facts})


def encoded(*entries: LedgerEntry) -> list[bytes]:
    """Entries as `LedgerStore.append` takes them."""
    return [msgspec.json.encode(entry) for entry in entries]


def stored_answer(seed: str, **facts: Any) -> StoredAnswer:
    """An entry of the exact cache that differs from those of other seeds, and lives for an hour from noon."""
    usual: dict[str, Any] = {
        "key": sha256(seed.encode()).digest(),
        "tenant": "acme",
        "namespace": "default",
        "model": "fast",
        "payload": seed.encode() + b"\x00\xff",
        "cost_microusd": 12,
        "created_at": _NOON,
        "expires_at": _NOON + timedelta(hours=1),
    }
    return StoredAnswer(**{**usual, **facts})


class KeyStoreContract:
    """`ports.KeyStore`."""

    async def test_a_key_comes_back_as_it_was_stored(self, stores: Stores) -> None:
        rich = key_record(
            "rich",
            user="u\u00e9",
            tier="pro",
            name='the key\'s "name"',
            admin=True,
            models=("fast", "strong"),
            created_at=_NOON + timedelta(microseconds=1),
            expires_at=_NOON + _DAY,
            revoked_at=_NOON + timedelta(hours=1),
        )
        plain, closed = key_record("plain"), key_record("closed", models=())
        for record in (rich, plain, closed):
            await stores.keys.add(record)
        for record in (rich, plain, closed):
            assert await stores.keys.find(record.digest) == record

    async def test_an_unknown_digest_finds_nothing(self, stores: Stores) -> None:
        await stores.keys.add(key_record("one"))
        assert await stores.keys.find(sha256(b"other").digest()) is None
        assert await stores.keys.find(b"short") is None

    async def test_adding_a_known_digest_changes_nothing(self, stores: Stores) -> None:
        first = key_record("same")
        await stores.keys.add(first)
        await stores.keys.add(key_record("same", tenant="thief"))
        assert await stores.keys.all(10) == [first]

    async def test_a_second_key_of_the_same_id_is_refused(self, stores: Stores) -> None:
        first = key_record("one")
        await stores.keys.add(first)
        with pytest.raises(InvalidRequest):
            await stores.keys.add(key_record("two", id=first.id))

    async def test_a_digest_of_the_wrong_length_is_refused(self, stores: Stores) -> None:
        with pytest.raises(InvalidRequest):
            await stores.keys.add(key_record("short", digest=b"short"))

    async def test_all_gives_the_newest_first_up_to_the_limit(self, stores: Stores) -> None:
        records = [key_record(str(number), id=uuid7_at(number, bytes(10)), tenant=f"t{number % 2}") for number in range(5)]
        for record in random.sample(records, 5):
            await stores.keys.add(record)
        assert await stores.keys.all(10) == records[::-1]
        assert await stores.keys.all(2) == [records[4], records[3]]
        assert await stores.keys.all(0) == []

    async def test_revoking_again_keeps_the_first_instant(self, stores: Stores) -> None:
        record = key_record("one")
        await stores.keys.add(record)
        assert await stores.keys.revoke(record.id, _NOON)
        assert await stores.keys.revoke(record.id, _NOON + _DAY)
        found = await stores.keys.find(record.digest)
        assert found is not None
        assert found.revoked_at == _NOON

    async def test_revoking_a_key_that_is_not_there_says_so(self, stores: Stores) -> None:
        assert not await stores.keys.revoke(new_id(), _NOON)


def _poison() -> list[tuple[str, bytes]]:
    good: dict[str, Any] = msgspec.json.decode(encoded(ledger_entry())[0])
    cases: dict[str, dict[str, Any]] = {
        "nul": {"model_asked": "a\0b"},
        "tokens_out_of_range": {"tokens_in": 2**40},
        "negative_tokens": {"tokens_out": -1},
        "money_out_of_range": {"cost_microusd": 2**80},
        "implausible_money": {"saved_microusd": 10**16},
        "no_uuid": {"id": "x"},
        "null_tenant": {"tenant": None},
        "wrong_type": {"final": "perhaps"},
    }
    raw = [(name, msgspec.json.encode({**good, **bad})) for name, bad in cases.items()]
    missing = msgspec.json.encode({name: value for name, value in good.items() if name != "source"})
    surrogate = encoded(ledger_entry(model_asked="@"))[0].replace(b"@", b"\\ud800")
    return [
        *raw,
        ("missing_field", missing),
        ("lone_surrogate", surrogate),
        ("not_utf8", encoded(ledger_entry(model_asked="@"))[0].replace(b"@", b"\xff")),
        ("no_json", b"{"),
        ("no_object", b"5"),
    ]


class LedgerStoreContract:
    """`ports.LedgerStore`."""

    async def test_entries_are_counted_once_however_often_they_come(self, stores: Stores) -> None:
        batch = encoded(*(ledger_entry() for _ in range(5)))
        assert await stores.ledger.append(batch) == 5
        assert await stores.ledger.append(batch) == 0
        assert await stores.ledger.append([*batch, *encoded(ledger_entry())]) == 1
        assert await stores.ledger.append(batch[:1] * 3) == 0
        assert (await _total(stores)).requests == 6

    async def test_an_entry_twice_in_one_batch_counts_once(self, stores: Stores) -> None:
        assert await stores.ledger.append(encoded(ledger_entry()) * 2) == 1
        assert await _total(stores) == Totals(requests=1, attempts=1, tokens_in=100, tokens_out=10, spent_microusd=21)

    async def test_an_empty_batch_is_no_work(self, stores: Stores) -> None:
        assert await stores.ledger.append([]) == 0

    async def test_overlapping_batches_at_the_same_time_count_each_entry_once(self, stores: Stores) -> None:
        entries = encoded(*(ledger_entry(_NOON + _DAY * (n % 3), tenant=f"t{n % 4}", model_used=f"m{n % 5}") for n in range(200)))
        batches = [random.sample(entries, 120) for _ in range(8)]
        new = await asyncio.gather(*(stores.ledger.append(batch) for batch in batches))
        distinct = len({entry for batch in batches for entry in batch})
        assert sum(new) == distinct
        assert (await _total(stores, days=4)).requests == distinct

    @pytest.mark.parametrize("bad", [raw for _, raw in _poison()], ids=[name for name, _ in _poison()])
    async def test_an_entry_that_cannot_be_stored_fails_its_batch_whole(self, stores: Stores, bad: bytes) -> None:
        good = encoded(ledger_entry())
        with pytest.raises(InvalidRequest):
            await stores.ledger.append([*good, bad])
        assert await _total(stores) == Totals()
        assert await stores.ledger.append(good) == 1

    async def test_an_entry_of_another_version_is_stored(self, stores: Stores) -> None:
        newest: dict[str, Any] = msgspec.json.decode(encoded(ledger_entry())[0])
        defaulted = {field.name for field in msgspec.structs.fields(LedgerEntry) if field.default is not msgspec.NODEFAULT}
        older = {name: value for name, value in newest.items() if name not in defaulted}
        newer = {**newest, "id": str(ledger_entry().id), "invented_later": {"a": [1]}}
        assert await stores.ledger.append([msgspec.json.encode(older), msgspec.json.encode(newer)]) == 2

    async def test_a_report_sums_what_the_entries_say(self, stores: Stores) -> None:
        key = new_id()
        await stores.ledger.append(
            encoded(
                ledger_entry(final=False, source=Source.NONE, error="upstream_timeout", status=504, cost_microusd=5),
                ledger_entry(attempt=2, model_used="strong", cost_microusd=100, saved_microusd=-79, key_id=key),
                ledger_entry(model_used="local", price_source="notional", cost_microusd=30),
                ledger_entry(attempt=0, source=Source.EXACT, cost_microusd=0, saved_microusd=21, tokens_in=0, tokens_out=0),
                ledger_entry(
                    attempt=0,
                    source=Source.NONE,
                    error="model_not_found",
                    status=404,
                    cost_microusd=0,
                    tokens_in=0,
                    tokens_out=0,
                    model_asked=None,
                    model_used=None,
                    key_id=None,
                    tenant="other",
                ),
            )
        )
        report = await stores.ledger.report(since=_NOON, until=_NOON + _DAY, by="model", tenant=None)
        assert report.total == Totals(
            requests=4, attempts=3, errors=1, tokens_in=300, tokens_out=30, spent_microusd=135, notional_microusd=30, saved_microusd=-58
        )
        assert list(report.rows) == ["strong", "local", "fast", "(none)"]
        assert report.rows["fast"] == Totals(requests=1, attempts=1, tokens_in=100, tokens_out=10, spent_microusd=5, saved_microusd=21)
        assert report.rows["(none)"] == Totals(requests=1, errors=1)
        assert report.by_source["exact"] == Totals(requests=1, saved_microusd=21)
        assert report.notional_models == ["local"]
        assert (report.since, report.until, report.by) == (_NOON, _NOON + _DAY, "model")
        assert (await self._rows(stores, "source")) == report.by_source
        assert set(await self._rows(stores, "key")) == {str(key), str(UUID(int=7)), "(none)"}
        assert {name: row.requests for name, row in (await self._rows(stores, "tenant")).items()} == {"acme": 3, "other": 1}

    async def _rows(self, stores: Stores, by: ReportBy) -> dict[str, Totals]:
        return (await stores.ledger.report(since=_NOON, until=_NOON + _DAY, by=by, tenant=None)).rows

    async def test_a_report_of_one_tenant_knows_no_other(self, stores: Stores) -> None:
        entries = [ledger_entry(_NOON + _DAY * day, tenant=tenant) for day in range(4) for tenant in ("acme", "rival")]
        await stores.ledger.append(encoded(*entries))
        report = await stores.ledger.report(since=_NOON, until=_NOON + _DAY * 9, by="tenant", tenant="acme")
        assert report.total.requests == 4
        assert set(report.rows) == {"acme"}
        nobody = await stores.ledger.report(since=_NOON, until=_NOON + _DAY * 9, by="tenant", tenant="")
        assert nobody.total == Totals()

    async def test_a_window_has_its_start_and_not_its_end(self, stores: Stores) -> None:
        await stores.ledger.append(encoded(ledger_entry(_NOON)))
        hit = await stores.ledger.report(since=_NOON, until=_NOON + timedelta(microseconds=1), by="model", tenant=None)
        early = await stores.ledger.report(since=_NOON - _DAY, until=_NOON, by="model", tenant=None)
        late = await stores.ledger.report(since=_NOON + timedelta(microseconds=1), until=_NOON + _DAY, by="model", tenant=None)
        backwards = await stores.ledger.report(since=_NOON + _DAY, until=_NOON - _DAY, by="model", tenant=None)
        assert [r.total.requests for r in (hit, early, late, backwards)] == [1, 0, 0, 0]

    async def test_a_window_may_be_all_of_time_in_any_zone(self, stores: Stores) -> None:
        await stores.ledger.append(encoded(ledger_entry()))
        west = timezone(timedelta(hours=-11))
        always = await stores.ledger.report(
            since=datetime.min.replace(tzinfo=UTC), until=datetime.max.replace(tzinfo=west), by="model", tenant=None
        )
        assert always.total.requests == 1

    async def test_an_instant_without_a_zone_is_refused(self, stores: Stores) -> None:
        with pytest.raises(InvalidRequest):
            await stores.ledger.report(since=datetime(2026, 1, 1), until=_NOON, by="model", tenant=None)  # noqa: DTZ001  # the point

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    async def test_any_window_equals_a_plain_sum(self, stores: Stores, data: st.DataObject) -> None:
        tenant = str(new_id())
        entries = data.draw(st.lists(_ENTRIES, max_size=25))
        entries = [msgspec.structs.replace(entry, tenant=tenant) for entry in entries]
        since, until = data.draw(st.tuples(_INSTANTS, _INSTANTS))
        await stores.ledger.append(encoded(*entries))
        report = await stores.ledger.report(since=since, until=until, by="model", tenant=tenant)
        inside = [entry for entry in entries if since <= _at(entry) < until]
        assert report.total == _plain_sum(inside)
        for model in {entry.model_used for entry in inside}:
            assert report.rows[str(model)] == _plain_sum(entry for entry in inside if entry.model_used == model)
        for source in {entry.source for entry in inside}:
            assert report.by_source[source] == _plain_sum(entry for entry in inside if entry.source == source)


_MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
_INSTANTS = st.one_of(
    st.integers(0, 6 * 86_400_000).map(lambda ms: _MIDNIGHT + timedelta(milliseconds=ms)),
    st.tuples(st.integers(0, 6), st.sampled_from([-1000, -1, 0, 1, 1000])).map(
        lambda at: _MIDNIGHT + _DAY * at[0] + timedelta(microseconds=at[1])
    ),
)
_ENTRIES = st.builds(
    ledger_entry,
    at=_INSTANTS,
    final=st.booleans(),
    attempt=st.integers(0, 2),
    model_used=st.sampled_from(["fast", "strong"]),
    source=st.sampled_from(["model", "exact", "none"]),
    error=st.sampled_from([None, "overloaded"]),
    price_source=st.sampled_from(["settings", "notional"]),
    tokens_in=st.integers(0, 10**6),
    cost_microusd=st.integers(0, 10**9),
    saved_microusd=st.integers(-(10**9), 10**9),
)


class AnswerStoreContract:
    """`ports.AnswerStore`."""

    async def test_an_answer_comes_back_as_it_was_stored(self, stores: Stores) -> None:
        answers = [
            stored_answer("a", tags=("x", "a,b")),
            stored_answer("b", tenant="rival", payload=b"", created_at=_NOON + timedelta(microseconds=1)),
        ]
        await stores.answers.put(answers)
        for answer in answers:
            assert await stores.answers.get(answer.tenant, answer.key) == answer

    async def test_another_tenants_answer_is_absent(self, stores: Stores) -> None:
        answer = stored_answer("a")
        await stores.answers.put([answer])
        for tenant in ("rival", "", "acme' OR true --", "ACME"):
            assert await stores.answers.get(tenant, answer.key) is None

    async def test_tenants_never_replace_each_others_answers(self, stores: Stores) -> None:
        mine, theirs = stored_answer("a"), stored_answer("a", tenant="rival", payload=b"theirs", created_at=_NOON + _DAY)
        await stores.answers.put([mine])
        await stores.answers.put([theirs])
        assert await stores.answers.get("acme", mine.key) == mine

    async def test_an_expired_answer_is_absent(self, stores: Stores) -> None:
        answer = stored_answer("a")
        await stores.answers.put([answer])
        stores.clock.now = answer.expires_at - timedelta(microseconds=1)
        assert await stores.answers.get("acme", answer.key) == answer
        assert await stores.answers.keys(10) == [answer.key]
        stores.clock.now = answer.expires_at
        assert await stores.answers.get("acme", answer.key) is None
        assert await stores.answers.keys(10) == []

    async def test_a_newer_answer_replaces_an_older_one_and_not_the_other_way(self, stores: Stores) -> None:
        old, new = stored_answer("a"), stored_answer("a", payload=b"new", created_at=_NOON + timedelta(seconds=1))
        await stores.answers.put([old])
        await stores.answers.put([new])
        await stores.answers.put([old])
        assert await stores.answers.get("acme", new.key) == new

    async def test_of_one_key_twice_in_a_batch_the_newest_stays(self, stores: Stores) -> None:
        old, new = stored_answer("a"), stored_answer("a", payload=b"new", created_at=_NOON + timedelta(seconds=1))
        await stores.answers.put([old, new, old])
        assert await stores.answers.get("acme", new.key) == new

    async def test_nothing_is_stored_of_a_batch_with_a_bad_entry(self, stores: Stores) -> None:
        good = stored_answer("a")
        with pytest.raises(InvalidRequest):
            await stores.answers.put([good, stored_answer("b", key=b"short")])
        assert await stores.answers.get("acme", good.key) is None

    async def test_storing_nothing_is_no_work(self, stores: Stores) -> None:
        await stores.answers.put([])
        assert await stores.answers.keys(10) == []

    async def test_keys_are_the_newest_of_all_tenants(self, stores: Stores) -> None:
        answers = [stored_answer(str(n), tenant=f"t{n % 2}", created_at=_NOON + timedelta(seconds=n)) for n in range(5)]
        await stores.answers.put(random.sample(answers, 5))
        assert await stores.answers.keys(10) == [answer.key for answer in reversed(answers)]
        assert await stores.answers.keys(2) == [answers[4].key, answers[3].key]

    async def test_pruning_takes_the_expired_and_then_the_oldest(self, stores: Stores) -> None:
        live = [stored_answer(f"live{n}", created_at=_NOON + timedelta(seconds=n)) for n in range(6)]
        expired = [stored_answer(f"expired{n}", created_at=_NOON + _DAY, expires_at=_NOON) for n in range(3)]
        await stores.answers.put([*live, *expired])
        assert await stores.answers.prune(4) == 5
        assert await stores.answers.keys(10) == [answer.key for answer in reversed(live[2:])]
        assert await stores.answers.prune(4) == 0

    async def test_pruning_handles_many(self, stores: Stores) -> None:
        await stores.answers.put([stored_answer(str(n), created_at=_NOON + timedelta(milliseconds=n)) for n in range(2500)])
        assert await stores.answers.prune(10) == 2490
        assert len(await stores.answers.keys(100)) == 10

    @pytest.mark.parametrize(
        ("scope", "left"),
        [
            (CacheScope(), []),
            (CacheScope(namespace="docs"), ["tagged", "plain", "ann"]),
            (CacheScope(tag="v1"), ["docs", "plain", "ann"]),
            (CacheScope(tag="v"), ["docs", "tagged", "plain", "ann"]),
            (CacheScope(namespace="docs", tag="v1"), ["docs", "tagged", "plain", "ann"]),
            (CacheScope(answer_key=sha256(b"plain").digest()), ["docs", "tagged", "ann"]),
            (CacheScope(user_id="ann"), ["docs", "tagged", "plain"]),
            (CacheScope(user_id="ann", namespace="docs"), ["docs", "tagged", "plain", "ann"]),
            (CacheScope(user_id=""), ["docs", "tagged", "plain", "ann"]),
        ],
    )
    async def test_what_is_flushed_goes_and_does_not_come_back(self, stores: Stores, scope: CacheScope, left: list[str]) -> None:
        """Not even when another worker stores only afterwards what it was given before."""
        facts: dict[str, dict[str, Any]] = {
            "docs": {"namespace": "docs"},
            "tagged": {"tags": ("v1", "a,\u00e9{")},
            "plain": {},
            "ann": {"user_id": "ann"},
        }
        answers = {name: stored_answer(name, **rest) for name, rest in facts.items()}
        rival = stored_answer("docs", tenant="rival", namespace="docs", tags=("v1",))
        await stores.answers.put([*answers.values(), rival])
        stores.clock.now += timedelta(seconds=1)
        assert await stores.answers.forget("acme", scope) == 4 - len(left)
        await stores.answers.put([*answers.values()])
        for name, answer in answers.items():
            assert await stores.answers.get("acme", answer.key) == (answer if name in left else None)
        assert await stores.answers.get("rival", rival.key) == rival
        fresh = [msgspec.structs.replace(answer, created_at=stores.clock.now + _DAY) for answer in answers.values()]
        await stores.answers.put([msgspec.structs.replace(one, expires_at=_NOON + 3 * _DAY) for one in fresh])
        assert len([one for one in fresh if await stores.answers.get("acme", one.key)]) == 4

    async def test_concurrent_writers_of_the_same_keys_all_succeed(self, stores: Stores) -> None:
        answers = [stored_answer(str(n)) for n in range(50)]
        await asyncio.gather(*(stores.answers.put(random.sample(answers, 50)) for _ in range(8)))
        assert len(await stores.answers.keys(100)) == 50


class ChangesContract:
    """`ports.Changes`, and that the stores of the same database feed it."""

    async def test_a_watch_begins_with_every_channel_so_that_nothing_is_missed(self, stores: Stores) -> None:
        async with aclosing(watched(stores.changes)) as news:
            assert {await anext(news) for _ in CHANNELS} == {(channel, "") for channel in CHANNELS}

    async def test_new_changed_and_deleted_budgets_are_told(self, stores: Stores) -> None:
        async with aclosing(watched(stores.changes)) as news:
            await _skip_start(news)
            one = settings_budget("tier", "free", "5/day", _NOON)
            for change in (stores.budgets.put(one), stores.budgets.put(one), stores.budgets.delete(one.id)):
                await change
                assert await anext(news) == ("budgets", "")

    async def test_new_and_revoked_keys_are_told(self, stores: Stores) -> None:
        record = key_record("a")
        async with aclosing(watched(stores.changes)) as news:
            await _skip_start(news)
            await stores.keys.add(record)
            assert await anext(news) == ("keys", "")
            await stores.keys.revoke(record.id, _NOON)
            assert await anext(news) == ("keys", "")

    async def test_stored_answers_are_told_with_their_keys(self, stores: Stores) -> None:
        answers = [stored_answer(str(n)) for n in range(300)]
        told: set[str] = set()
        async with aclosing(watched(stores.changes)) as news:
            await _skip_start(news)
            await stores.answers.put(answers)
            while len(told) < 300:
                channel, payload = await anext(news)
                assert channel == "answers"
                told |= set(payload.split(","))
        assert told == {answer.key.hex() for answer in answers}

    async def test_every_watcher_hears_it(self, stores: Stores) -> None:
        async with aclosing(watched(stores.changes)) as one, aclosing(watched(stores.changes)) as two:
            await _skip_start(one)
            await _skip_start(two)
            await stores.answers.put([stored_answer("a")])
            assert await anext(one) == await anext(two) == ("answers", stored_answer("a").key.hex())


async def watched(changes: Changes) -> AsyncGenerator[tuple[str, str], None]:
    """The news, none of them waited for longer than a test may take."""
    watch = changes.watch()
    try:
        while True:
            async with asyncio.timeout(_NEWS_S):
                news = await anext(watch)
            yield news
    finally:
        if isinstance(watch, AsyncGenerator):
            await watch.aclose()


async def _skip_start(news: AsyncIterator[tuple[str, str]]) -> None:
    for _ in CHANNELS:
        await anext(news)


async def _total(stores: Stores, *, days: int = 1) -> Totals:
    return (await stores.ledger.report(since=_NOON, until=_NOON + _DAY * days, by="model", tenant=None)).total


def _at(entry: LedgerEntry) -> datetime:
    return _EPOCH + timedelta(milliseconds=entry.id.int >> 80)


def _plain_sum(entries: Iterable[LedgerEntry]) -> Totals:
    rows: Sequence[LedgerEntry] = list(entries)
    return Totals(
        requests=len([row for row in rows if row.final]),
        attempts=len([row for row in rows if row.attempt]),
        errors=len([row for row in rows if row.final and row.error]),
        tokens_in=sum(row.tokens_in for row in rows),
        tokens_out=sum(row.tokens_out for row in rows),
        spent_microusd=sum(row.cost_microusd for row in rows),
        notional_microusd=sum(row.cost_microusd for row in rows if row.price_source == "notional"),
        saved_microusd=sum(row.saved_microusd for row in rows),
    )
