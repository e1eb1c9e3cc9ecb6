"""What is simulated: who asks, how much, and when it rises and falls."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge
from itertools import accumulate
from uuid import UUID

import msgspec

from farthing.economics.arrivals import Load, Sample, spike
from farthing.economics.simulation import Asked
from farthing.types import Principal

KEYS = 200
ABUSER = UUID(int=0xABBA)
BEFORE_S = 1200.0
"""Of the base load, before it rises."""
_TENANT = "simulated"


class Crowd(msgspec.Struct, frozen=True, kw_only=True):
    """Callers, each with a key, and how often each of them asks (weights, added up)."""

    callers: tuple[Principal, ...]
    weights: tuple[float, ...]

    def draw(self, rng: random.Random) -> Principal:
        """Who asks next."""
        return rng.choices(self.callers, cum_weights=self.weights)[0]


def crowd(shares: Mapping[str, float], keys: int = KEYS) -> Crowd:
    """Callers by tier and its share of the requests: each tier has the same share of the keys, and at least one."""
    callers: list[Principal] = []
    each: list[float] = []
    for tier, share in shares.items():
        members = max(round(keys * share), 1)
        callers += [Principal(key_id=UUID(int=len(callers) + at), tenant=_TENANT, tier=tier) for at in range(1, members + 1)]
        each += [share / members] * members
    return Crowd(callers=tuple(callers), weights=tuple(accumulate(each)))


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A load, and who makes it."""

    load: Load
    crowd: Crowd

    def requests(self, samples: Sequence[Sample], seed: str) -> Iterator[Asked]:
        """Its requests in order; the same ones for the same seed."""
        times, people = random.Random(f"{seed} times"), random.Random(f"{seed} people")  # noqa: S311 - a simulation
        for at in self.load.arrivals(times):
            yield Asked(at, self.crowd.draw(people), people.choice(samples))


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated: the loads, when the high one begins and ends (seconds), and the keys that are accounted for apart."""

    sources: tuple[Source, ...]
    began_s: float
    over_s: float
    ends_s: float
    watched: tuple[str, ...] = ()

    @property
    def expected(self) -> float:
        """How many requests come in the mean."""
        return sum(source.load.expected for source in self.sources)

    @property
    def tiers(self) -> dict[str, Principal]:
        """One ordinary caller of each tier."""
        return {one.tier: one for source in self.sources for one in source.crowd.callers if one.key_id != ABUSER}

    def requests(self, samples: Sequence[Sample], seed: int) -> Iterator[Asked]:
        """All of them, in order; the same ones for the same seed."""
        streams = [source.requests(samples, f"{seed} {at}") for at, source in enumerate(self.sources)]
        return merge(*streams, key=lambda asked: asked.at)


def viral(base_per_s: float, factor: float, callers: Crowd, *, minutes: float, window_s: float) -> Plan:
    """Everybody comes at once, for some minutes."""
    lasts_s = minutes * 60
    load = spike(base_per_s, factor, before_s=BEFORE_S, lasts_s=lasts_s, after_s=_after(window_s))
    return Plan(sources=(Source(load=load, crowd=callers),), began_s=BEFORE_S, over_s=BEFORE_S + lasts_s, ends_s=load.ends_at)


def drain(base_per_s: float, factor: float, callers: Crowd, *, minutes: float, window_s: float) -> Plan:
    """One key of the first tier asks `factor` times as much as all others together, for some minutes."""
    lasts_s = minutes * 60
    over_s = BEFORE_S + lasts_s
    ends_s = over_s + _after(window_s)
    abuser = Principal(key_id=ABUSER, tenant=_TENANT, tier=callers.callers[0].tier)
    alone = Crowd(callers=(abuser,), weights=(1.0,))
    sources = (
        Source(load=Load(steps=((0.0, base_per_s), (ends_s, 0.0))), crowd=callers),
        Source(load=Load(steps=((0.0, 0.0), (BEFORE_S, base_per_s * factor), (over_s, 0.0))), crowd=alone),
    )
    return Plan(sources=sources, began_s=BEFORE_S, over_s=over_s, ends_s=ends_s, watched=(str(ABUSER),))


def _after(window_s: float) -> float:
    """Until what was spent at the end has left the window, and well beyond."""
    return 1.5 * window_s + 600.0
