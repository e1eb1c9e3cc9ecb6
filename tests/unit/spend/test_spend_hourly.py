"""What was spent within the last hour: dollars that somebody bills, of all tenants, and no older ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from farthing.inprocess.stores import InProcessLedger
from farthing.spend.hourly import HourlySpend
from farthing.testing.stores import encoded, ledger_entry

_NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


async def test_it_is_what_is_billed_of_all_tenants_within_the_hour() -> None:
    ledger = InProcessLedger()
    for minutes, facts in (
        (1, {"cost_microusd": 1_500_000}),
        (59, {"cost_microusd": 2_000_000, "tenant": "other"}),
        (61, {"cost_microusd": 9_000_000}),
        (2, {"cost_microusd": 7_000_000, "price_source": "notional"}),
    ):
        entry = ledger_entry(_NOON - timedelta(minutes=minutes), **facts)
        await ledger.append(encoded(msgspec.structs.replace(entry, saved_microusd=0)))
    found = await HourlySpend(ledger, clock=lambda: _NOON)()
    assert found == {"SpendUsdPerHour": 3.5, "SavedUsdPerHour": 0.0, "RequestsPerHour": 3.0}
