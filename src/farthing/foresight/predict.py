"""Which answers are worth computing before anybody asks. Pure.

How likely a click is, is learnt from what became of answers that were computed ahead: read before they ended, or not. It is the mean of a
Beta-Binomial model in two steps (Gelman et al., Bayesian Data Analysis, chapter 5): what is known of an action in all segments is the
prior of each of its segments, worth `weight` answers, and the guess of the settings is the prior of the action.

An answer computed ahead that is read saves the model call that the click would have cost, and the wait for it; it costs that call in any
case. With p the chance of a click, c the cost and l what not waiting is worth, it pays while p · (c + l) > c.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from farthing.types import ActionCounts


class Prior(msgspec.Struct, frozen=True, kw_only=True):
    """What is thought before anything is known: a click with this probability, and of how many answers that guess is worth."""

    click: float
    weight: float


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An action that may be computed now: how likely the click is, and on how many answers that rests. Money in micro-dollars."""

    action: str
    segment: str
    click: float
    known: float
    cost_microusd: float
    latency_microusd: float

    @property
    def value_microusd(self) -> float:
        """What is gained by it on the average, less what it costs."""
        return self.click * (self.cost_microusd + self.latency_microusd) - self.cost_microusd


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """An action to compute. `explores`: not because it pays, but to learn whether it does."""

    candidate: Candidate
    explores: bool = False


def click_probability(counts: Iterable[ActionCounts], segment: str, prior: Prior) -> tuple[float, float]:
    """How likely a click on an action is in a segment, and how many of its answers have ended. `counts` are those of all its segments."""
    read = unread = mine_read = mine_unread = 0.0
    for one in counts:
        lost = one.stale + one.expired
        read, unread = read + one.read, unread + lost
        if one.segment == segment:
            mine_read, mine_unread = mine_read + one.read, mine_unread + lost
    of_action = (prior.click * prior.weight + read) / (prior.weight + read + unread)
    return (of_action * prior.weight + mine_read) / (prior.weight + mine_read + mine_unread), mine_read + mine_unread


def choose(candidates: Sequence[Candidate], *, most: int, explore: float, draw: float) -> list[Choice]:
    """At most `most` actions, the most valuable first, each of which pays.

    `draw` is a number from 0 to 1 of this event: where it is below `explore`, the last place goes to the action that least is known of
    among those left out.
    """
    ranked = sorted(candidates, key=lambda one: (-one.value_microusd, one.action))
    chosen = [Choice(candidate=one) for one in ranked if one.value_microusd > 0][:most]
    if draw < explore:
        taken = {one.candidate.action for one in chosen}
        others = [one for one in ranked if one.action not in taken]
        if others:
            tried = min(others, key=lambda one: one.known)
            chosen = [*chosen[: most - 1], Choice(candidate=tried, explores=True)]
    return chosen


def draw_of(*names: str) -> float:
    """A number from 0 to 1, the same for the same names: an event that comes again decides the same."""
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def segment_of(value: object, counts: Iterable[ActionCounts], *, most: int) -> str:
    """The name of a segment: short, and one of at most `most`; what comes beyond them is `(others)`. Empty: there is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return ""
    name = "".join(char if char.isprintable() else " " for char in str(value)[:_LONGEST])
    known = {one.segment for one in counts} - {"", OTHERS}
    return name if name in known or len(known) < most else OTHERS


OTHERS = "(others)"
_LONGEST = 64
