"""Rate limits of keys: which hold for whom, and what they let through.

The state is in a `limit_table`, so that limits hold over all workers of a host. Where that file cannot be used requests pass uncounted:
a full disk costs limits, not answers. `uncounted` says how often.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Literal, TypeVar

from farthing.errors import RateLimited
from farthing.settings import KeyLimitSettings, LimitsSettings
from farthing.spend.limit_table import REQUESTS, TOKENS, LimitTable, NoRoom, Row
from farthing.spend.token_bucket import holds, level_at, seconds_until
from farthing.types import Limits, Principal, Quota

_log = logging.getLogger("farthing.limits")
_Name = Literal["requests", "tokens"]
_NONE = Limits()
_MOST = 1_000_000_000
_CHECK_EVERY_S = 1.0
_LATE_S = 2.0
"""Who has waited this much longer than he may is gone."""
_BUCKETS: dict[_Name, int] = {"requests": REQUESTS, "tokens": TOKENS}

Found = TypeVar("Found")
Told = TypeVar("Told")


class LimitRules:
    """Which limits hold for whom: field by field the key's own, else its tier's, else the default's."""

    def __init__(self, settings: LimitsSettings) -> None:
        default = _limits_of(settings.default)
        self._default = None if default == _NONE else default
        self._tiers = {name: _over(_limits_of(tier), default) for name, tier in settings.tiers.items()}

    def of(self, principal: Principal) -> Limits | None:
        """The limits of whoever asks; None when he has none."""
        base = self._tiers.get(principal.tier, self._default)
        own = principal.limits
        if own == _NONE:
            return base
        return _over(own, base or _NONE)


def _limits_of(settings: KeyLimitSettings) -> Limits:
    return Limits(
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        concurrency=settings.concurrency,
    )


def _over(own: Limits, base: Limits) -> Limits | None:
    merged = Limits(
        requests_per_minute=_sane(own.requests_per_minute, base.requests_per_minute),
        tokens_per_minute=_sane(own.tokens_per_minute, base.tokens_per_minute),
        concurrency=_sane(own.concurrency, base.concurrency),
    )
    return None if merged == _NONE else merged


def _sane(own: int | None, base: int | None) -> int | None:
    """What is stored may be older than our checks: no limit is below 1, for it divides."""
    value = base if own is None else own
    return None if value is None else min(max(value, 1), _MOST)


class KeyLimits:
    """Counts requests and tokens against limits. `max_wait_s` is how long a request may wait for one of its key to end.

    Nothing here waits, but for locks that are held for microseconds. `refused` counts refusals by limit.
    """

    def __init__(self, table: LimitTable, *, max_wait_s: float) -> None:
        self._table = table
        self._patience_s = max_wait_s + _LATE_S
        self._healthy = True
        self._failures = 0
        self.refused: dict[str, int] = dict.fromkeys(("requests", "tokens", "concurrency"), 0)

    @property
    def uncounted(self) -> int:
        """Requests that passed because the file, or a row in it, was not to be had; and keys that lost their row too early."""
        return self._failures + self._table.crowded

    def close(self) -> None:
        """Let go of the file."""
        self._table.close()

    async def run(self) -> None:
        """See every second that the file is still there. Until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            self._table.check()

    def enter(self, key: bytes, limits: Limits, since: float, *, behind: bool) -> bool:
        """Count a request that came at `since`. True: it may go on, and `leave` must follow where there is a limit of concurrency.

        False: it must wait in line, as it must in any case when it is `behind` others there; then `advance` has the say. Raises
        `RateLimited` when there were too many requests.
        """
        per_minute = limits.requests_per_minute
        if limits.concurrency is None:
            if per_minute is not None:
                self._visit(key, lambda row, now: self._take(row, now, "requests", 1, per_minute))
            return True

        def work(row: Row, now: float) -> bool:
            if per_minute is not None:
                self._take(row, now, "requests", 1, per_minute)
            return not behind and self._advance(row, key, limits, since)

        return self._admitted(key, limits, work, write=per_minute is not None)

    def advance(self, key: bytes, limits: Limits, since: float) -> bool:
        """Whether the first in line may go on now. `leave` must follow then."""
        return self._admitted(key, limits, lambda row, _: self._advance(row, key, limits, since), write=False)

    def _admitted(self, key: bytes, limits: Limits, work: Callable[[Row, float], bool], *, write: bool) -> bool:
        """What `work` says; yes when the file is away. Who goes on is counted in any case, for he will `leave`."""
        before = self._table.held(key)
        found = self._visit(key, work, write=write)
        if found is None and limits.concurrency is not None and self._table.held(key) == before:
            self._tell(self._table.add, key, 1)
        return found is not False

    def _advance(self, row: Row, key: bytes, limits: Limits, since: float) -> bool:
        most = limits.concurrency
        if most is None:
            return True
        if self._table.under_way(row, most) >= most or not self._table.is_first(row, since, self._patience_s):
            return False
        self._table.add(key, 1)
        return True

    def leave(self, key: bytes) -> None:
        """End a request of a key with a limit of concurrency."""
        self._tell(self._table.add, key, -1)

    def line(self, key: bytes, since: float | None) -> None:
        """Say since when the first one in this worker's line has waited, so that others elsewhere come after him; None: nobody waits."""
        self._tell(self._table.line, key, since)

    def give_up(self, key: bytes, limits: Limits, reason: str) -> RateLimited:
        """The refusal of a request that found no place. It does not count against the requests of the minute."""
        per_minute = limits.requests_per_minute
        if per_minute is not None:
            self._visit(key, lambda row, now: self._put(row, now, "requests", 1, per_minute))
        self.refused["concurrency"] += 1
        message = f"{limits.concurrency} requests of this API key are under way, its limit at Farthing (not the provider's); {reason}."
        return RateLimited(message, limit="concurrency", retry_after_s=1.0)

    def take_tokens(self, key: bytes, limit: int, tokens: int) -> None:
        """Take tokens out of the minute's. Raises `RateLimited`."""
        self._visit(key, lambda row, now: self._take(row, now, "tokens", tokens, limit))

    def put_tokens(self, key: bytes, limit: int, tokens: int) -> None:
        """Give tokens back, or (negative) take more."""
        self._visit(key, lambda row, now: self._put(row, now, "tokens", tokens, limit))

    def quotas(self, key: bytes, limits: Limits) -> list[Quota]:
        """How the buckets stand, for the headers of an answer."""
        try:
            row = self._table.peek(key)
        except OSError:
            row = None
        found = [self._quota(row, "requests", limits.requests_per_minute), self._quota(row, "tokens", limits.tokens_per_minute)]
        return [quota for quota in found if quota is not None]

    def _quota(self, row: Row | tuple[float, ...] | None, name: _Name, limit: int | None) -> Quota | None:
        if limit is None:
            return None
        at = _BUCKETS[name]
        level = float(limit) if row is None else level_at(row[at], row[at + 1], self._table.clock(), limit)
        return Quota(name=name, limit=limit, remaining=max(0, int(level)), reset_s=seconds_until(level, limit, limit))

    def _take(self, row: Row, now: float, name: _Name, amount: int, limit: int) -> None:
        at = _BUCKETS[name]
        level = level_at(row[at], row[at + 1], now, limit)
        passes = holds(level, amount)
        row[at], row[at + 1] = level - amount if passes else level, now
        if not passes:
            self.refused[name] += 1
            raise _refusal(name, limit, seconds_until(level, amount, limit))

    def _put(self, row: Row, now: float, name: _Name, amount: int, limit: int) -> None:
        at = _BUCKETS[name]
        row[at], row[at + 1] = min(level_at(row[at], row[at + 1], now, limit) + amount, float(limit)), now

    def _visit(self, key: bytes, work: Callable[[Row, float], Found], *, write: bool = True) -> Found | None:
        """What `work` returns; None when the file cannot be used."""
        try:
            found = self._table.visit(key, work, write=write)
        except (OSError, NoRoom) as error:
            self._failures += 1
            self._say(error)
            return None
        self._healthy = True
        return found

    def _tell(self, what: Callable[[bytes, Told], None], key: bytes, told: Told) -> None:
        try:
            what(key, told)
        except (OSError, NoRoom) as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        if self._healthy:
            self._healthy = False
            _log.warning("requests pass without being counted against the limits of their keys: %s", error)


def _refusal(name: _Name, limit: int, wait_s: float) -> RateLimited:
    after = (math.ceil(wait_s * 1000) + 1) / 1000  # whole milliseconds, as the header has them, and never too early
    message = f"This API key may use {limit} {name} a minute, its limit at Farthing (not the provider's). Try again in {after:.3f} s."
    return RateLimited(message, limit=name, retry_after_s=after)


class TokenRates:
    """Tokens per minute, for whoever calls a model. Takes what a call may use, and afterwards puts it right.

    A call that may use more than a minute's tokens passes when the bucket is full; if it does use more, the key is in debt, and later
    ones wait. No call is refused for ever.
    """

    def __init__(self, rules: LimitRules, limits: KeyLimits) -> None:
        self._rules = rules
        self._limits = limits

    def reserve(self, principal: Principal, tokens: int) -> None:
        """Take what a call may use. Raises `RateLimited`."""
        limit = self._limit(principal)
        if limit is not None:
            self._limits.take_tokens(principal.key_id.bytes, limit, min(max(tokens, 0), limit))

    def settle(self, principal: Principal, reserved: int, used: int) -> None:
        """Put right what `reserve` took for `reserved`: `used` is what the call did use, 0 when it did not happen."""
        limit = self._limit(principal)
        if limit is not None:
            change = min(max(reserved, 0), limit) - max(used, 0)
            if change:
                self._limits.put_tokens(principal.key_id.bytes, limit, change)

    def applies(self, principal: Principal) -> bool:
        """Whether there is a limit for this caller."""
        return self._limit(principal) is not None

    def _limit(self, principal: Principal) -> int | None:
        limits = self._rules.of(principal)
        return None if limits is None else limits.tokens_per_minute
