"""What every adapter of `ports.ReceiptStore` must do. Subclass the suite and give it a fixture `receipts`, an empty store."""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from farthing.ports import ReceiptStore
from farthing.types import Receipt, uuid7_at

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def receipt(number: int, **facts: Any) -> Receipt:
    """Of a user who was forgotten; those of higher numbers later."""
    usual = {"id": uuid7_at(1_000_000 + number, bytes(10)), "tenant": "acme", "user": "ann", "at": _NOON, "by": "key"}
    return Receipt(**{**usual, "places": {"facts": number, "events": None}, **facts})


class ReceiptStoreContract:
    """`ports.ReceiptStore`."""

    async def test_receipts_come_back_newest_first_to_who_knows_the_user(self, receipts: ReceiptStore) -> None:
        made = [receipt(1), receipt(2, user="bob"), receipt(3, tenant="rival"), receipt(4, user=None), receipt(5, user="\u00fc'\"")]
        for one in (*made, receipt(6), made[0]):
            await receipts.add(one)
        assert await receipts.of("acme", "ann", limit=9) == [receipt(6), made[0]]
        assert await receipts.of("acme", "ann", limit=1) == [receipt(6)]
        assert await receipts.of("acme", None, limit=9) == [made[3]]
        assert await receipts.of("acme", "\u00fc'\"", limit=9) == [made[4]]
        assert await receipts.of("rival", "bob", limit=9) == await receipts.of("acme", "", limit=9) == []

    async def test_the_oldest_go_beyond_the_bound(self, receipts: ReceiptStore) -> None:
        for number in range(10):
            await receipts.add(receipt(number))
        assert await receipts.prune(4) == 6
        assert await receipts.of("acme", "ann", limit=9) == [receipt(number) for number in range(9, 5, -1)]
        assert await receipts.prune(4) == 0
