"""Plays a stream to a policy, and says how often it was right."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from calibrating.facts import Policy, World
from calibrating.policies import Threshold
from farthing.caching.proportions import interval

_WINDOWS = 10
_STEPS = 14


class Outcome(msgspec.Struct, kw_only=True):
    """`windows`: the share of wrong answers among those served, in ten parts of the stream, one after the other."""

    asked: int
    served: int
    wrong: int
    windows: list[float]

    @property
    def hit_rate(self) -> float:
        return self.served / self.asked if self.asked else 0.0

    @property
    def error(self) -> float:
        return self.wrong / self.served if self.served else 0.0

    @property
    def error_low(self) -> float:
        """A lower bound (95%) of the error that these counts come from."""
        return interval(self.wrong, self.served, 0.95)[0]

    def plain(self) -> dict[str, float | list[float]]:
        """For JSON."""
        return {
            "hit_rate": round(self.hit_rate, 4),
            "error": round(self.error, 5),
            "wrong": self.wrong,
            "served": self.served,
            "windows": [round(share, 4) for share in self.windows],
        }


def replay(world: World, policy: Policy) -> Outcome:
    """From the first question to the last."""
    served = [0] * _WINDOWS
    wrong = [0] * _WINDOWS
    for number in range(world.length):
        candidate = world.ask(number)
        if candidate is None or not policy.serves(number, candidate, world):
            world.missed(number)
            continue
        window = number * _WINDOWS // world.length
        served[window] += 1
        wrong[window] += not candidate.same
    shares = [bad / all_ if all_ else 0.0 for bad, all_ in zip(wrong, served, strict=True)]
    return Outcome(asked=world.length, served=sum(served), wrong=sum(wrong), windows=shares)


def best_threshold(make: Callable[[], World], error: float, *, low: float = -12.0, high: float = 12.0) -> tuple[float, Outcome]:
    """The fixed threshold that, chosen in hindsight, serves most with at most this error. By bisection, then the best that was seen."""
    best: tuple[float, Outcome] | None = None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        found = replay(make(), Threshold(middle))
        if found.error <= error:
            high = middle
            if best is None or found.served > best[1].served:
                best = (middle, found)
        else:
            low = middle
    return best or (math.inf, replay(make(), Threshold(math.inf)))
