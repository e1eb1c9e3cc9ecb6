"""How well a verifier decides, on labelled pairs and on labelled traffic, with exact intervals.

Pure: what comes in is read already. For the command `farthing cache score`, for `tuning`, and for benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from farthing.caching.evidence import Evidence, compare
from farthing.caching.proportions import interval
from farthing.caching.reading import Reading
from farthing.caching.verifier import Verifier
from farthing.lazily import Lazily

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = Lazily("numpy")

Interval = tuple[float, float]


class Read(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A text, read. `vector`: the sentence's, int8 (see `ports.Encoded`)."""

    reading: Reading
    vector: bytes


class Pair(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Two questions, and whether they ask the same."""

    a: Read
    b: Read
    same: bool


class Asked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A question of labelled traffic. Two of one intent have the same answer."""

    read: Read
    intent: str


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a threshold would do. `error`: share of wrong ones among what is accepted."""

    threshold: float
    hit_rate_same: float
    false_hit_rate: float
    error: float


class PairScore(msgspec.Struct, frozen=True, kw_only=True):
    """`n` pairs judged at error bound `delta`.

    `hit_rate_same` is the share of same pairs that is accepted, `false_hit_rate` that of different ones, `error` the share of different
    ones among what is accepted; each with its 95% Clopper-Pearson interval. `cosine_hit_rate_same`: what a threshold on the cosine alone
    reaches when it is set, on these very pairs, to the same false-hit rate; `cosine_curve` is that of cosines as thresholds.
    """

    n: int
    delta: float
    same: int
    hit_rate_same: float
    hit_rate_same_interval: Interval
    false_hit_rate: float
    false_hit_rate_interval: Interval
    error: float
    error_interval: Interval
    threshold_or_policy: str
    cosine_hit_rate_same: float
    vetoes: dict[str, int]
    curve: tuple[CurvePoint, ...]
    cosine_curve: tuple[CurvePoint, ...]


class TrafficPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a threshold would do to traffic."""

    threshold: float
    hit_rate: float
    error: float


class TrafficScore(msgspec.Struct, frozen=True, kw_only=True):
    """`n` asked questions against `seen` known ones. `error`: share of hits in the wrong intent, with its 95% Clopper-Pearson interval."""

    n: int
    seen: int
    delta: float
    hit_rate: float
    hit_rate_interval: Interval
    error: float
    error_interval: Interval
    threshold_or_policy: str
    curve: tuple[TrafficPoint, ...]


_POINTS: Final = 200
_BOTH_SIDES: Final = 0.975
"""Of each bound of a 95% interval."""


def score_pairs(pairs: Sequence[Pair], verifier: Verifier, delta: float) -> PairScore:
    """Judge pairs as the cache would. Needs at least one pair."""
    evidence = compared(pairs)
    odds = np.array([verifier.score(found) for found in evidence])
    vetoes: dict[str, int] = {}
    for found in evidence:
        if found.veto is not None:
            vetoes[found.veto] = vetoes.get(found.veto, 0) + 1
    return judged_pairs(
        odds,
        np.array([found.similarity for found in evidence]),
        np.array([pair.same for pair in pairs], bool),
        delta=delta,
        threshold=verifier.threshold(delta),
        policy=f"verifier {verifier.version}",
        vetoes=vetoes,
    )


def compared(pairs: Sequence[Pair]) -> list[Evidence]:
    """The evidence of each pair."""
    return [compare(pair.a.reading, pair.b.reading, _cosine(pair.a.vector, pair.b.vector)) for pair in pairs]


def judged_pairs(
    odds: NDArray[np.float64],
    cosines: NDArray[np.float64],
    same: NDArray[np.bool_],
    *,
    delta: float,
    threshold: float,
    policy: str,
    vetoes: dict[str, int] | None = None,
) -> PairScore:
    """The figures, from the log-odds of pairs that were judged already."""
    accepted = odds >= threshold
    hits, wrong = int((accepted & same).sum()), int((accepted & ~same).sum())
    sames, differents = int(same.sum()), int((~same).sum())
    return PairScore(
        n=len(odds),
        delta=delta,
        same=sames,
        hit_rate_same=_share(hits, sames),
        hit_rate_same_interval=_interval(hits, sames),
        false_hit_rate=_share(wrong, differents),
        false_hit_rate_interval=_interval(wrong, differents),
        error=_share(wrong, hits + wrong),
        error_interval=_interval(wrong, hits + wrong),
        threshold_or_policy=_policy(policy, threshold),
        cosine_hit_rate_same=_hits_at(cosines, same, wrong),
        vetoes=dict(sorted((vetoes or {}).items())),
        curve=_pair_curve(odds, same),
        cosine_curve=_pair_curve(cosines, same),
    )


def score_traffic(seen: Sequence[Asked], asked: Sequence[Asked], verifier: Verifier, delta: float, *, candidates: int = 3) -> TrafficScore:
    """Each asked question against its nearest seen ones; the candidate with the best log-odds answers when they suffice."""
    known = unit_rows([question.read.vector for question in seen])
    best, right = np.empty(len(asked)), np.empty(len(asked), bool)
    for index, question in enumerate(asked):
        cosines = known @ unit_rows([question.read.vector])[0]
        nearest = np.argsort(-cosines, kind="stable")[: candidates + 1]
        odds = []
        for rank, there in enumerate(nearest[:candidates]):
            margin = float(cosines[there] - cosines[nearest[rank + 1]]) if rank + 1 < len(nearest) else None
            evidence = compare(question.read.reading, seen[there].read.reading, float(cosines[there]))
            odds.append((verifier.score(evidence, margin), there))
        best[index], chosen = max(odds, key=lambda scored: scored[0])
        right[index] = seen[chosen].intent == question.intent
    threshold = verifier.threshold(delta)
    hit = best >= threshold
    hits, wrong = int(hit.sum()), int((hit & ~right).sum())
    return TrafficScore(
        n=len(asked),
        seen=len(seen),
        delta=delta,
        hit_rate=_share(hits, len(asked)),
        hit_rate_interval=_interval(hits, len(asked)),
        error=_share(wrong, hits),
        error_interval=_interval(wrong, hits),
        threshold_or_policy=_policy(f"verifier {verifier.version}", threshold),
        curve=_traffic_curve(best, right),
    )


def _policy(name: str, threshold: float) -> str:
    return f"{name}: guards, then log-odds >= {threshold:.3f}"


def _interval(successes: int, trials: int) -> Interval:
    return interval(successes, trials, _BOTH_SIDES)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def unit_rows(vectors: Sequence[bytes]) -> NDArray[np.float32]:
    """Vectors of one signed byte a dimension as rows of length 1."""
    rows = np.frombuffer(b"".join(vectors), np.int8).reshape(len(vectors), -1).astype(np.float32)
    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


def _cosine(one: bytes, other: bytes) -> float:
    units = unit_rows([one, other])
    return float(units[0] @ units[1])


def _hits_at(scores: NDArray[np.float64], same: NDArray[np.bool_], wrong: int) -> float:
    """The share of same pairs above the threshold that lets `wrong` different ones pass."""
    different = np.sort(scores[~same])[::-1]
    if wrong >= len(different):
        return 1.0
    return float((scores[same] > different[wrong]).mean()) if same.any() else 0.0


def _thresholds(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.unique(np.quantile(odds, np.linspace(0, 1, _POINTS), method="nearest"))


def _pair_curve(odds: NDArray[np.float64], same: NDArray[np.bool_]) -> tuple[CurvePoint, ...]:
    points = []
    for threshold in _thresholds(odds):
        accepted = odds >= threshold
        hits, wrong = int((accepted & same).sum()), int((accepted & ~same).sum())
        points.append(
            CurvePoint(
                threshold=float(threshold),
                hit_rate_same=_share(hits, int(same.sum())),
                false_hit_rate=_share(wrong, int((~same).sum())),
                error=_share(wrong, hits + wrong),
            )
        )
    return tuple(points)


def _traffic_curve(best: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[TrafficPoint, ...]:
    points = []
    for threshold in _thresholds(best):
        hit = best >= threshold
        points.append(
            TrafficPoint(threshold=float(threshold), hit_rate=float(hit.mean()), error=_share(int((hit & ~right).sum()), int(hit.sum())))
        )
    return tuple(points)
