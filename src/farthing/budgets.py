"""Budgets as facts: what may be spent, on whom, in which window; and how they are written down (`5/day`).

Windows are UTC. `hour`, `day` and `month` are those of the calendar; a rolling window is counted in sixtieths, the oldest of which counts
whole, so that it errs towards spending less.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Literal
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import Event, own_event

Scope = Literal["key", "user", "tenant", "tier", "total"]
WindowKind = Literal["hour", "day", "month", "rolling", "lifetime"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
_BUCKETS = 60
_MICRO = 1_000_000
_MOST_USD = Decimal(1_000_000_000)
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_SHORTEST_S, _LONGEST_S = 60, 366 * 86_400
_TEXT = re.compile(r"\$?(?P<usd>[^/\s]+)(?:/(?P<window>[a-z]+)(?:-(?P<count>\d{1,6})(?P<unit>[mhd]))?)?(?: (?P<soft>soft|hard))?")
_HOW = "write dollars per window: 5/hour, 5/day, 5/month, 5/rolling-24h, or 5/lifetime; ' soft' behind it only warns"


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """`seconds` is the length of a rolling one, a multiple of 60, and None for the others."""

    kind: WindowKind
    seconds: int | None = None

    def start(self, at: datetime) -> datetime:
        """Which window an instant is in, by its beginning; 1970 for those that never begin anew (`rolling`, `lifetime`)."""
        if self.kind == "hour":
            return at.replace(minute=0, second=0, microsecond=0)
        if self.kind == "day":
            return at.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.kind == "month":
            return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return EPOCH

    def end(self, at: datetime) -> datetime:
        """When the window of an instant ends."""
        begin = self.start(at)
        if self.kind == "hour":
            return begin + timedelta(hours=1)
        if self.kind == "day":
            return begin + timedelta(days=1)
        if self.kind == "month":
            return (begin + timedelta(days=32)).replace(day=1)
        return _FOREVER

    def since(self, at: datetime) -> datetime:
        """The oldest bucket that counts at an instant."""
        if self.seconds is None:
            return self.start(at)
        step = self.seconds // _BUCKETS
        return EPOCH + timedelta(seconds=int((at.timestamp() - self.seconds) // step * step))

    def bucket(self, at: datetime) -> datetime:
        """Where spending at an instant is counted."""
        if self.seconds is None:
            return self.start(at)
        step = self.seconds // _BUCKETS
        return EPOCH + timedelta(seconds=int(at.timestamp() // step * step))

    def __str__(self) -> str:
        if self.seconds is None:
            return self.kind
        unit = next(name for name in ("d", "h", "m") if self.seconds % _UNITS[name] == 0)
        return f"rolling-{self.seconds // _UNITS[unit]}{unit}"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """`subject` is the key's id, the user, the tenant or the tier; empty for `total`. `tenant` is None for `tier` and `total`.

    `hard`: requests stop at it. Else it is only told.
    """

    id: UUID
    scope: Scope
    subject: str
    tenant: str | None
    limit_microusd: int
    window: Window
    hard: bool = True
    origin: Literal["api", "settings"] = "api"
    created_at: datetime

    def covers(self, *, tenant: str, key_id: UUID | None, user: str | None, tier: str | None) -> bool:
        """Whether spending of this caller counts."""
        if self.tenant is not None and self.tenant != tenant:
            return False
        subject = {"key": str(key_id), "user": user, "tenant": tenant, "tier": tier, "total": ""}[self.scope]
        return subject == self.subject


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker wants of a budget's lease: `change` more micro-dollars (negative: given back), at least `least` or nothing.

    `spare` is what it holds unused, which goes back when `least` cannot be had: else two that want more would wait for each other. `rest`
    will do instead of `least` when no other worker holds anything: the last of a budget goes to one request alone.
    """

    budget_id: UUID
    window_start: datetime
    since: datetime
    change: int
    least: int = 0
    spare: int = 0
    rest: int | None = None


class LeaseState(msgspec.Struct, frozen=True, kw_only=True):
    """A lease after the store has decided. `granted` is all that the worker may have spent in this window, the past included.

    `spent` is what the ledger knows of the whole budget; `others` what other workers hold and have not spent, as far as it knows;
    `unsettled` the same of this worker. `fresh`: the store knew of no earlier lease of this worker.
    """

    budget_id: UUID
    limit_microusd: int
    granted: int
    spent: int
    others: int
    unsettled: int
    fresh: bool


class BudgetUse(msgspec.Struct, frozen=True, kw_only=True):
    """How a budget stands in its present window. `held` is leased to workers and not spent, as far as the ledger knows."""

    budget: Budget
    spent_microusd: int
    held_microusd: int


def parse(text: str) -> tuple[int, Window, bool]:
    """(micro-dollars, window, hard) of `5/day`, `0.5/rolling-24h soft`. Raises `InvalidRequest`."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"{text[:64]!r} is not a budget: {_HOW}", param="budget_usd")
    if match["window"] is None:
        raise InvalidRequest(f"{text[:64]!r} names no window: {_HOW}", param="budget_usd")
    return amount(match["usd"]), _window(match), match["soft"] != "soft"


def amount(text: str) -> int:
    """Dollars, as micro-dollars. Raises `InvalidRequest` for what is negative, not finite, too large or finer than a micro-dollar."""
    try:
        usd = Decimal(text)
    except InvalidOperation:
        raise InvalidRequest(f"{text[:64]!r} is not an amount of dollars: {_HOW}", param="budget_usd") from None
    if not usd.is_finite() or not 0 <= usd <= _MOST_USD:
        raise InvalidRequest(f"a budget is 0 to {_MOST_USD:,} dollars, not {text[:64]}", param="budget_usd")
    if usd * _MICRO != int(usd * _MICRO):
        raise InvalidRequest(f"{text[:64]} is finer than a micro-dollar (0.000001)", param="budget_usd")
    return int(usd * _MICRO)


def _window(match: re.Match[str]) -> Window:
    kind, count = match["window"], match["count"]
    if kind == "rolling" and count:
        seconds = int(count) * _UNITS[match["unit"]]
        if not _SHORTEST_S <= seconds <= _LONGEST_S:
            raise InvalidRequest("a rolling window has 1 minute to 366 days, such as rolling-24h", param="budget_usd")
        return Window(kind="rolling", seconds=seconds)
    if kind in {"hour", "day", "month", "lifetime"} and not count:
        return Window(kind=kind)  # type: ignore[arg-type]  # checked here
    raise InvalidRequest(f"there is no window {match['window']!r}: {_HOW}", param="budget_usd")


def new_budget(
    scope: Scope, tenant: str | None, subject: str, text: str, at: datetime, *, origin: Literal["api", "settings"] = "api"
) -> Budget:
    """The budget that a text such as `5/day` says. Raises `InvalidRequest`.

    There is one of a scope, subject and window: making it again changes its limit, and its spend and leases outlive a restart.
    """
    limit, window, hard = parse(text)
    return Budget(
        id=uuid5(NAMESPACE_URL, f"farthing:budget:{scope}:{tenant or ''}:{subject}:{window}"),
        scope=scope,
        subject=subject,
        tenant=tenant,
        limit_microusd=limit,
        window=window,
        hard=hard,
        origin=origin,
        created_at=at,
    )


def settings_budget(scope: Scope, subject: str, text: str, at: datetime) -> Budget:
    """A budget of the settings file. Raises `InvalidRequest`."""
    return new_budget(scope, subject if scope == "tenant" else None, subject, text, at, origin="settings")


def budget_event(budget: Budget, at: datetime) -> Event:
    """What the bus is told of a budget that is new, or has another limit."""
    data = {
        "id": str(budget.id),
        "scope": budget.scope,
        "subject": budget.subject,
        "limit_microusd": budget.limit_microusd,
        "window": budget.window.kind,
        "hard": budget.hard,
    }
    return own_event("budget", "changed", data, at, tenant=budget.tenant, subject=str(budget.id))


def budget_gone(budget_id: UUID, tenant: str | None, at: datetime) -> Event:
    """What the bus is told of one that was deleted."""
    return own_event("budget", "deleted", {"id": str(budget_id)}, at, tenant=tenant, subject=str(budget_id))
