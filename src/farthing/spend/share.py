"""What a worker has of a key's limits: taken ahead, so that most requests need no look at what the workers know together.

A portion is at most 1/600 of a minute's worth, a tenth of a second's at the limit's pace, and is taken only while an eighth of the
bucket stays in it. So a worker sees nothing of a limit that is far, and near it, or where 1/600 is not more than one, each request and
each token is looked up as if there were no portions. Nothing is let through that was not taken before, but for the tokens of calls that
used more than they had reserved: those a worker owes up to a portion's size.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from farthing.spend.token_bucket import level_at
from farthing.types import Limits, Quota

BucketName: TypeAlias = Literal["requests", "tokens"]
LEND_S = 0.1
"""How long a worker may use what it took without asking again. What is left goes back within twice that."""
_PORTION = 600
_NEAR = 8
_COARSE = 100
"""Of a portion that is larger than this nobody misses what the headers do not show yet."""
_SMALL = 64
"""A smaller limit of concurrency has no places ahead: its line is first come first served without exception."""
_PLACES = 16


class Portion:
    """What a worker has of one bucket, whose numbers are `at` and `at + 1` in a row: how full, and the instant at which that was.

    `left` is what was taken and not used; below 0 it is owed. `size` 0: nothing may be done without a look.
    """

    __slots__ = ("_at", "_level", "_when", "left", "limit", "size")

    def __init__(self, limit: int, at: int) -> None:
        self.limit = limit
        self.size = 0
        self.left = 0.0
        self._at = at
        self._level = float(limit)
        self._when = 0.0

    def take(self, amount: float) -> bool:
        """Use some of what is left. False: it takes a look."""
        if self.size and self.left >= amount:
            self.left -= amount
            return True
        return False

    def put(self, amount: float) -> bool:
        """Add to what is left, or (negative) owe. False: that would be too much, it takes a look."""
        left = self.left + amount
        if -self.size <= left <= 2 * self.size and self.size:
            self.left = left
            return True
        return False

    def level(self, now: float) -> float:
        """How full the bucket is, as far as this worker knows."""
        return min(level_at(self._level, self._when, now, self.limit) + self.left, float(self.limit))

    def give_back(self, row: memoryview[float], now: float) -> None:
        """Put what is left, or owed, into the bucket."""
        at = self._at
        if self.left:
            row[at], row[at + 1] = min(level_at(row[at], row[at + 1], now, self.limit) + self.left, float(self.limit)), now
        self.left, self.size = 0.0, 0

    def take_ahead(self, row: memoryview[float], now: float, *, more: bool) -> None:
        """Remember how the bucket stands, and take a portion if there is to be `more` and it is far from empty."""
        at, size = self._at, self.limit // _PORTION
        if more and size > 1:
            level = level_at(row[at], row[at + 1], now, self.limit)
            if level - size >= self.limit / _NEAR:
                row[at], row[at + 1] = level - size, now
                self.left, self.size = float(size), size
        self._level, self._when = row[at], row[at + 1]


class Share:
    """What a worker has of one key's limits.

    `inside` are the key's requests under way here, `places` how many the other workers count as if they were, never fewer; `spare` are
    those that it may have more. All of it may be used until the instant `until`, and `shown`, where there is such, in the headers.
    """

    __slots__ = ("_limited", "inside", "limits", "places", "portions", "requests", "shown", "spare", "tokens", "until")

    def __init__(self, limits: Limits, requests_at: int, tokens_at: int) -> None:
        per_minute, tokens = limits.requests_per_minute, limits.tokens_per_minute
        self.limits = limits
        self.requests = None if per_minute is None else Portion(per_minute, requests_at)
        self.tokens = None if tokens is None else Portion(tokens, tokens_at)
        both: tuple[tuple[BucketName, Portion | None], ...] = ("requests", self.requests), ("tokens", self.tokens)
        self.portions = [(name, portion) for name, portion in both if portion is not None]
        self.inside = self.places = self.spare = 0
        self.until = 0.0
        self.shown: tuple[Quota, ...] | None = None
        self._limited = limits.concurrency is not None

    def enter(self) -> bool:
        """Let a request in without a look. False: it takes one."""
        if self._limited:
            if self.inside >= self.places or not (self.requests is None or self.requests.take(1)):
                return False
            self.inside += 1
            return True
        return self.requests is None or self.requests.take(1)

    def spare_places(self, elsewhere: int) -> int:
        """How many places to have ahead, while the other workers have so many: some while half of them stay free, else none."""
        most = self.limits.concurrency
        if most is None or most < _SMALL:
            return 0
        spare = most // _PLACES
        return spare if elsewhere + self.inside + spare <= most // 2 else 0

    @property
    def coarse(self) -> bool:
        """Whether its portions are so large that headers need not be worked out for each answer."""
        return all(portion.size > _COARSE for _, portion in self.portions)

    @property
    def ahead(self) -> bool:
        """Whether it has anything that others might miss."""
        return self.spare > 0 or any(portion.size for _, portion in self.portions)
