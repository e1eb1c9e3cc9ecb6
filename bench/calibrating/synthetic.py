"""A made-up tenant whose traffic drifts: topics come and go, the verifier is off by topic and in time, entries differ.

The label is drawn from sigmoid(slope(t)·score + shift(t) + topic's shift(t) + entry's shift). A policy sees the score and the entry.
"""

from __future__ import annotations

import math
import random
from uuid import UUID

import msgspec

from calibrating.facts import Candidate


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """`repeats`: the share of questions whose candidate is near. Spreads are standard deviations in log-odds. `bad`: hopeless entries."""

    length: int = 30_000
    topics: int = 12
    entries: int = 40
    repeats: float = 0.5
    near: tuple[float, float] = (5.0, 1.5)
    far: tuple[float, float] = (-2.0, 2.5)
    topic_spread: float = 0.7
    entry_spread: float = 1.5
    bad: float = 0.02
    phases: tuple[tuple[float, float], ...] = ((1.0, 0.0), (0.9, -0.7), (1.1, 0.4))
    seed: int = 0


class Synthetic:
    """See `facts.World`. The cache is full from the start and changes with nothing: what differs between policies is the decision alone."""

    def __init__(self, tenant: Tenant) -> None:
        self.length = tenant.length
        draw = random.Random(tenant.seed)  # noqa: S311 - a simulation
        self._asked = [self._one(tenant, draw, number, moods) for number, moods in self._moods(tenant, draw)]

    def ask(self, number: int) -> Candidate | None:
        return self._asked[number]

    def missed(self, number: int) -> None:
        """Nothing changes."""

    def confirmed(self, number: int, question_id: UUID) -> None:
        """Nothing changes."""

    def died(self, question_id: UUID) -> None:
        """The calibration refuses it by itself."""

    @staticmethod
    def _moods(tenant: Tenant, draw: random.Random) -> list[tuple[int, list[float]]]:
        """The topics' shifts at each time: each gets a new one, on average, four times in the stream."""
        moods = [draw.gauss(0, tenant.topic_spread) for _ in range(tenant.topics)]
        found = []
        for number in range(tenant.length):
            if draw.random() < 4 * tenant.topics / tenant.length:
                moods = list(moods)
                moods[draw.randrange(tenant.topics)] = draw.gauss(0, tenant.topic_spread)
            found.append((number, moods))
        return found

    @staticmethod
    def _one(tenant: Tenant, draw: random.Random, number: int, moods: list[float]) -> Candidate:
        season = number / tenant.length
        topic = int((draw.betavariate(2, 2) + season) * tenant.topics) % tenant.topics
        entry = min(int(draw.expovariate(1.0) * tenant.entries / 3), tenant.entries - 1)
        own = random.Random(f"{tenant.seed}/{topic}/{entry}")  # noqa: S311 - a simulation
        lasting = own.gauss(0, tenant.entry_spread) - (5.0 if own.random() < tenant.bad else 0.0)
        slope, shift = tenant.phases[int(season * len(tenant.phases))]
        score = draw.gauss(*(tenant.near if draw.random() < tenant.repeats else tenant.far))
        odds = slope * score + shift + moods[topic] + lasting
        return Candidate(UUID(int=topic << 64 | entry), score, draw.random() < 1 / (1 + math.exp(-max(odds, -700.0))))
