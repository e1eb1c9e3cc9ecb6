"""What every `ports.SpendLog` must do. Subclass the suite in a test module and give it a fixture `told` with an empty ledger."""
# ruff: noqa: D102  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from farthing.ports import Changes, LedgerStore, SpendLog
from farthing.spend_news import MOST_BYTES, read
from farthing.testing.stores import encoded, ledger_entry, watched
from farthing.types import SpendRow

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_KEY = UUID(int=7)
_NEWS_S = 5.0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A log, the ledger that it reads, the news that it tells. `most`: how many rows have names."""

    log: SpendLog
    ledger: LedgerStore
    changes: Changes
    most: int


def row(**facts: Any) -> SpendRow:
    """One request."""
    usual: dict[str, Any] = {"at": 0.0, "tenant": "acme", "tier": "free", "key_id": str(_KEY), "mode": None, "microusd": 21, "requests": 1}
    return SpendRow(**{**usual, **facts})


async def _spend(told: Told, at: datetime = _NOON, **facts: Any) -> None:
    await told.ledger.append(encoded(ledger_entry(at=at, worker="w1", **facts)))


async def _since(told: Told, at: datetime = _NOON, *, span_s: float = 60.0, but: str = "me") -> list[SpendRow]:
    return await told.log.since(at, span_s=span_s, but=but)


class SpendLogContract:
    """`ports.SpendLog`."""

    async def test_an_empty_ledger_has_nothing(self, told: Told) -> None:
        assert await _since(told) == []

    async def test_spending_is_summed_by_span_and_caller_and_mode(self, told: Told) -> None:
        for seconds, mode in ((0, None), (59, None), (60, None), (61, "SHALLOW")):
            await _spend(told, _NOON + timedelta(seconds=seconds), mode=mode)
        noon = _NOON.timestamp()
        rows = await _since(told)
        assert [(one.at, one.mode, one.microusd, one.requests) for one in rows[:1]] == [(noon, None, 42, 2)]
        assert {(one.at, one.mode, one.microusd, one.requests) for one in rows[1:]} == {
            (noon + 60, None, 21, 1),
            (noon + 60, "SHALLOW", 21, 1),
        }
        assert {(one.tenant, one.tier, one.key_id) for one in rows} == {("acme", "free", str(_KEY))}

    async def test_spans_may_be_shorter_than_a_second(self, told: Told) -> None:
        await _spend(told, _NOON + timedelta(milliseconds=260))
        assert [one.at for one in await _since(told, span_s=0.25)] == [_NOON.timestamp() + 0.25]

    async def test_what_was_before_does_not_count(self, told: Told) -> None:
        await _spend(told, _NOON - timedelta(milliseconds=1))
        assert await _since(told) == []

    async def test_the_worker_that_asks_is_left_out_and_those_without_a_name_are_not(self, told: Told) -> None:
        await _spend(told)
        await told.ledger.append(encoded(ledger_entry(worker=None)))
        assert [one.requests for one in await _since(told, but="w1")] == [1]
        assert [one.requests for one in await _since(told, but="w2")] == [2]

    async def test_prices_that_nobody_bills_count_nothing(self, told: Told) -> None:
        for source in ("notional", "none"):
            await _spend(told, price_source=source)
        await _spend(told, price_source="genai-prices", cost_microusd=5)
        assert [(one.microusd, one.requests) for one in await _since(told)] == [(5, 3)]

    async def test_attempts_that_were_not_final_cost_and_are_no_requests(self, told: Told) -> None:
        await _spend(told, final=False)
        assert [(one.microusd, one.requests) for one in await _since(told)] == [(21, 0)]

    async def test_requests_without_a_key_do_not_count(self, told: Told) -> None:
        await _spend(told, key_id=None, tenant="unauthenticated", cost_microusd=0)
        assert await _since(told) == []

    async def test_of_too_many_rows_the_cheapest_lose_their_names_and_nothing_else(self, told: Told) -> None:
        for at in range(told.most + 5):
            await _spend(told, key_id=UUID(int=at), cost_microusd=1000 - at)
        rows = await _since(told)
        named = [one for one in rows if one.key_id is not None]
        (rest,) = [one for one in rows if one.key_id is None]
        assert len(named) == told.most
        assert min(one.microusd for one in named) > 1000 - told.most
        assert (rest.tenant, rest.requests) == ("", 5)
        assert sum(one.microusd for one in rows) == sum(1000 - at for at in range(told.most + 5))

    async def test_what_is_told_is_heard_once_by_all(self, told: Told) -> None:
        heard = _heard(told.changes)
        async with aclosing(heard):
            first = asyncio.ensure_future(anext(heard))
            await asyncio.sleep(0.2)
            await told.log.tell([row(), row(key_id=None, tenant="ünïcode", microusd=10**12)], "w1")
            await told.log.tell([], "w1")
            await told.log.tell([row(microusd=1)], "w1")
            one, two = read(await asyncio.wait_for(first, _NEWS_S)), read(await asyncio.wait_for(anext(heard), _NEWS_S))
        assert (one.worker, one.number, two.number) == ("w1", 1, 2)
        assert one.spent() == [row(), row(key_id=None, tenant="ünïcode", microusd=10**12)]
        assert two.spent() == [row(microusd=1)]

    async def test_much_is_told_in_pieces_that_fit(self, told: Told) -> None:
        rows = [row(tenant="t" * 100 + str(at)) for at in range(300)]
        heard = _heard(told.changes)
        got: list[SpendRow] = []
        async with aclosing(heard):
            piece = asyncio.ensure_future(anext(heard))
            await asyncio.sleep(0.2)
            await told.log.tell(rows, "w1")
            while len(got) < len(rows):
                payload = await asyncio.wait_for(piece, _NEWS_S)
                assert len(payload.encode()) <= MOST_BYTES
                got += read(payload).spent()
                piece = asyncio.ensure_future(anext(heard))
            piece.cancel()
            await asyncio.gather(piece, return_exceptions=True)
        assert got == rows


async def _heard(changes: Changes) -> AsyncGenerator[str, None]:
    async with aclosing(watched(changes)) as news:
        async for channel, payload in news:
            if channel == "spend" and payload:
                yield payload
