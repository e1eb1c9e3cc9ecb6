"""What rate limits let through.

The state is in a `limit_table`, so that limits hold over all workers of a host; what a worker may use without a look there is its
`share`. Where that file cannot be used requests pass uncounted: a full disk costs limits, not answers. `uncounted` says how often.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from farthing.errors import RateLimited
from farthing.spend.limit_rules import LimitRules
from farthing.spend.limit_table import REQUESTS, TOKENS, LimitTable, Row
from farthing.spend.share import BucketName, Share
from farthing.spend.shares import Shares
from farthing.spend.token_bucket import holds, level_at, seconds_until
from farthing.types import Limits, Principal, Quota

_LATE_S = 2.0
"""Who has waited this much longer than he may is gone."""
_BUCKETS: dict[BucketName, int] = {"requests": REQUESTS, "tokens": TOKENS}


class KeyLimits:
    """Counts requests and tokens against limits. `max_wait_s` is how long a request may wait for one of its key to end.

    Nothing here waits, but for locks that are held for microseconds. `refused` counts refusals by limit.
    """

    def __init__(self, table: LimitTable, *, max_wait_s: float) -> None:
        self._table = table
        self._shares = Shares(table)
        self._patience_s = max_wait_s + _LATE_S
        self.refused: dict[str, int] = dict.fromkeys(("requests", "tokens", "concurrency"), 0)
        self.leave = self._shares.leave
        """End a request of a key (bytes) with a limit of concurrency."""
        self.line = self._shares.line
        self.run = self._shares.run

    @property
    def uncounted(self) -> int:
        """Requests that passed because the file, or a row in it, was not to be had; and keys that lost their row too early."""
        return self._shares.failures + self._table.crowded

    def close(self) -> None:
        """Give back what was taken ahead, and let go of the file."""
        self._shares.close()
        self._table.close()

    def enter(self, key: bytes, limits: Limits, since: float, *, behind: bool) -> bool:
        """Count a request that came at `since`. True: it may go on, and `leave` must follow where there is a limit of concurrency.

        False: it must wait in line, as it must in any case when it is `behind` others there; then `advance` has the say. Raises
        `RateLimited` when there were too many requests.
        """
        share = self._shares.usable(key, limits)
        if share is not None and not behind and share.enter():
            return True
        per_minute = limits.requests_per_minute

        def work(row: Row, now: float, share: Share) -> bool:
            if per_minute is not None:
                self._take(row, now, "requests", 1, per_minute)
            return not behind and self._advance(row, share, since)

        return self._admitted(key, limits, work)

    def advance(self, key: bytes, limits: Limits, since: float) -> bool:
        """Whether the first in line may go on now. `leave` must follow then."""
        return self._admitted(key, limits, lambda row, _, share: self._advance(row, share, since))

    def _admitted(self, key: bytes, limits: Limits, work: Callable[[Row, float, Share], bool]) -> bool:
        """What `work` says; yes when the file is away. Who goes on is counted in any case, for he will `leave`."""
        if limits.concurrency is None:
            return limits.requests_per_minute is None or self._shares.look(key, limits, work, more=True) is not False
        before = self._shares.inside(key)
        found = self._shares.look(key, limits, work, more=True)
        if found is None:
            self._shares.force(key, limits, before + 1)
        return found is not False

    def _advance(self, row: Row, share: Share, since: float) -> bool:
        most, here = share.limits.concurrency, share.inside
        if most is None:
            return True
        if self._table.elsewhere(row, most - here) + here >= most or not self._table.is_first(row, since, self._patience_s):
            return False
        share.inside += 1
        return True

    def give_up(self, key: bytes, limits: Limits, reason: str) -> RateLimited:
        """The refusal of a request that found no place. It does not count against the requests of the minute."""
        per_minute = limits.requests_per_minute
        if per_minute is not None:
            self._shares.look(key, limits, lambda row, now, _: self._put(row, now, "requests", 1, per_minute), more=False)
        self.refused["concurrency"] += 1
        message = f"{limits.concurrency} requests of this API key are under way, its limit at Farthing (not the provider's); {reason}."
        return RateLimited(message, limit="concurrency", retry_after_s=1.0)

    def take_tokens(self, key: bytes, limits: Limits, tokens: int) -> None:
        """Take tokens out of the minute's. Raises `RateLimited`."""
        share, limit = self._shares.usable(key, limits), limits.tokens_per_minute
        if limit is None or (share is not None and share.tokens is not None and share.tokens.take(tokens)):
            return
        self._shares.look(key, limits, lambda row, now, _: self._take(row, now, "tokens", tokens, limit), more=True)

    def put_tokens(self, key: bytes, limits: Limits, tokens: int) -> None:
        """Give tokens back, or (negative) take more."""
        share, limit = self._shares.usable(key, limits), limits.tokens_per_minute
        if limit is None or (share is not None and share.tokens is not None and share.tokens.put(tokens)):
            return
        busy = share is not None  # a call that took long brings its tokens, and asks for no new share
        self._shares.look(key, limits, lambda row, now, _: self._put(row, now, "tokens", tokens, limit), more=busy)

    def quotas(self, key: bytes, limits: Limits) -> Sequence[Quota]:
        """How the buckets stand, for the headers of an answer. What came in the last 0.1 s may be missing."""
        share, now = self._shares.usable(key, limits), self._table.clock()
        if share is None:
            return self._peek(key, limits, now)
        if share.shown is not None:
            return share.shown
        found = tuple(_quota(name, portion.limit, portion.level(now)) for name, portion in share.portions)
        if share.coarse:
            share.shown = found
        return found

    def _peek(self, key: bytes, limits: Limits, now: float) -> list[Quota]:
        """As the file has it; a key without a row has all."""
        try:
            row = self._table.peek(key)
        except OSError:
            row = None
        limited: tuple[tuple[BucketName, int | None], ...] = ("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)
        found = []
        for name, limit in limited:
            if limit is not None:
                at = _BUCKETS[name]
                found.append(_quota(name, limit, float(limit) if row is None else level_at(row[at], row[at + 1], now, limit)))
        return found

    def _take(self, row: Row, now: float, name: BucketName, amount: int, limit: int) -> None:
        at = _BUCKETS[name]
        level = level_at(row[at], row[at + 1], now, limit)
        passes = holds(level, amount)
        row[at], row[at + 1] = level - amount if passes else level, now
        if not passes:
            self.refused[name] += 1
            raise _refusal(name, limit, seconds_until(level, amount, limit))

    def _put(self, row: Row, now: float, name: BucketName, amount: int, limit: int) -> None:
        at = _BUCKETS[name]
        row[at], row[at + 1] = min(level_at(row[at], row[at + 1], now, limit) + amount, float(limit)), now


def _quota(name: BucketName, limit: int, level: float) -> Quota:
    return Quota(name=name, limit=limit, remaining=max(0, int(level)), reset_s=seconds_until(level, limit, limit))


def _refusal(name: BucketName, limit: int, wait_s: float) -> RateLimited:
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

    def of(self, principal: Principal) -> Limits | None:
        """The limits of whoever asks, to be handed to `reserve` and `settle`; None when none is of tokens."""
        limits = self._rules.of(principal)
        return limits if limits is not None and limits.tokens_per_minute is not None else None

    def reserve(self, principal: Principal, limits: Limits, tokens: int) -> None:
        """Take what a call may use. Raises `RateLimited`."""
        self._limits.take_tokens(principal.key_id.bytes, limits, _bounded(tokens, limits))

    def settle(self, principal: Principal, limits: Limits, reserved: int, used: int) -> None:
        """Put right what `reserve` took for `reserved`: `used` is what the call did use, 0 when it did not happen."""
        change = _bounded(reserved, limits) - max(used, 0)
        if change:
            self._limits.put_tokens(principal.key_id.bytes, limits, change)


def _bounded(tokens: int, limits: Limits) -> int:
    return min(max(tokens, 0), limits.tokens_per_minute or 0)
