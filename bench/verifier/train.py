"""Fit the verifier that comes with Farthing: `python bench/verifier/train.py DATA WORDNET [--cache FILE]` writes `verifier.json`.

DATA holds `cache/banking77.jsonl.gz` and `prompts/replay_prompts.jsonl.gz`; WORDNET is Debian's /usr/share/wordnet (wordnet-base). What
is fitted to, and its licences: see `pairs.py` and `sisters.py`. Deterministic for an embedder; embedding 32,000 texts takes minutes, and
`--cache` keeps them for the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import edits
import msgspec
import numpy as np
import pairs
from fit import Additive, Floats
from numpy.typing import NDArray
from sisters import sisters
from tokenizers import Tokenizer

from farthing.caching import verifier
from farthing.caching.evidence import NAMES, Evidence, compare
from farthing.caching.reading import Reading, read
from farthing.ports import Encoded
from farthing.providers.local.embedder import OnnxEmbedder
from farthing.providers.local.weights import MINILM, locate, locate_tokenizer

HERE = Path(__file__).parent
GENERAL = (
    "similarity",
    "kept",
    "length_ratio",
    "last",
    "all_covered_least",
    "all_covered_most",
    "covered_most",
    "weakest_other",
    "ask_same",
)
CROWD = (
    "similarity", "kept", "length", "content", "rarest", "rarity", "trigrams", "shared_least", "all_covered_least", "all_covered_most",
    "loose_least", "loose_most",
    "missing_sum", "missing_most", "length_ratio", "weakest", "first_person", "function_words",
)  # fmt: skip
KINDS = {"written": 1.0, "far": 1.0, "edited": 1.0, "ordered": 0.3}
"""What the general part is fitted to, and how much each pair counts."""
WISHERS = ("written", "desk", "bank")
MOST_WISH = 4.0
LENIENCE = 1.0
CROWD_ERROR = 0.0115
"""Share of wrong hits, among BANKING77's training texts, each left out in turn, that the crowd's part is set to at delta = 0.01."""
CROWDED = {"name": "margin", "at": [0.1, 0.2], "adds": [1.0, 0.0]}
EDITED_SHARE = 0.42
"""Of different pairs that come up, so many are taken to be one small edit apart, the others to be as far apart as the written ones.

The one number here that was set by looking at question pairs that nothing was fitted to: with it, the map from delta to threshold holds.
"""
DELTAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


class Texts:
    """Texts, read and embedded once."""

    def __init__(self, cache: Path | None) -> None:
        self._cache = cache
        self._encoded: dict[str, Encoded] = (
            msgspec.msgpack.decode(cache.read_bytes(), type=dict[str, Encoded]) if cache and cache.exists() else {}
        )
        self._readings: dict[str, Reading] = {}

    async def add(self, texts: Sequence[str]) -> None:
        missing = sorted({text for text in texts if text not in self._encoded})
        embedder = OnnxEmbedder(model=locate(MINILM), tokenizer=locate_tokenizer(MINILM))
        for start in range(0, len(missing), 512):
            some = missing[start : start + 512]
            self._encoded.update(zip(some, await embedder.encode(some), strict=True))
        await embedder.aclose()
        if self._cache and missing:
            self._cache.write_bytes(msgspec.msgpack.encode(self._encoded))

    def units(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([np.frombuffer(self._encoded[text].vector, np.int8) for text in texts], np.float32)
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    def nearest(self, texts: Sequence[str], most: int) -> list[list[int]]:
        units = self.units(texts)
        found: list[list[int]] = []
        for start in range(0, len(texts), 1000):
            cosines = units[start : start + 1000] @ units.T
            cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -1
            found.extend(np.argsort(-cosines, axis=1, kind="stable")[:, :most].tolist())
        return found

    def reading(self, text: str) -> Reading:
        if text not in self._readings:
            self._readings[text] = read(text, self._encoded[text])
        return self._readings[text]

    def evidence(self, one: str, other: str) -> Evidence:
        units = self.units([one, other])
        return compare(self.reading(one), self.reading(other), float(units[0] @ units[1]))


def values_of(found: Sequence[Evidence]) -> tuple[Floats, NDArray[np.bool_]]:
    """The values, and which rows have any."""
    judged = np.array([bool(evidence.values) for evidence in found])
    values = np.zeros((len(found), len(NAMES)))
    for place, evidence in enumerate(found):
        if evidence.values:
            values[place] = evidence.values
    return values, judged


def wish_weight(general: Additive, values: Floats, same: NDArray[np.bool_]) -> float:
    """What a wish adds to the log-odds of the general part: one coefficient, with a weak ridge, by Newton's method."""
    odds, weight = general(values), 0.0
    for _ in range(50):
        expected = 1 / (1 + np.exp(-(odds + weight)))
        weight += ((same - expected).sum() - 0.05 * weight) / ((expected * (1 - expected)).sum() + 0.05)
    return min(weight, MOST_WISH)


def thresholds(odds: Floats, kinds: NDArray[np.str_]) -> list[tuple[float, float]]:
    """For each delta the log-odds that a share delta of different pairs reach, with two standard errors in hand."""
    grid = np.linspace(-8, 8, 3201)
    written, edited = (
        (odds[group][:, None] >= grid[None]).mean(axis=0) for group in (np.isin(kinds, ["written", "far"]), kinds == "edited")
    )
    error = np.sqrt(edited * (1 - edited) / (kinds == "edited").sum())
    shares = (1 - EDITED_SHARE) * written + EDITED_SHARE * (edited + 2 * error)
    return [(delta, round(float(grid[np.argmax(shares <= delta)]), 3)) for delta in DELTAS]


def crowd_shift(odds: Floats, crowd: Floats, right: NDArray[np.bool_], vetoed: NDArray[np.bool_], threshold: float) -> float:
    """What to add to the crowd's log-odds (texts, candidates) so that at the threshold the stated share of hits is wrong."""
    best = 0.0
    for shift in np.linspace(4, -8, 241):
        scores = np.where(vetoed, -np.inf, np.minimum(odds + LENIENCE, crowd + shift))
        hit = scores.max(axis=1) >= threshold
        wrong = ~right[np.arange(len(right)), scores.argmax(axis=1)]
        best = float(shift)
        if hit.any() and wrong[hit].mean() <= CROWD_ERROR:
            break
    return best


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("wordnet", type=Path)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    rng = Random(1)  # noqa: S311 - reproducible, not secret
    bank = [row for row in pairs.rows(options.data / "cache/banking77.jsonl.gz") if row["split"] == "train"]
    vocabulary = Tokenizer.from_file(str(locate_tokenizer(MINILM))).get_vocab()
    ranks = {word: number - 1995 for word, number in vocabulary.items() if number >= 1995 and not word.startswith("##")}
    harmful = edits.Harmful(sisters(options.wordnet, ranks))
    found = pairs.without_vectors(HERE / "meanings.txt", options.data / "prompts/replay_prompts.jsonl.gz", bank, harmful, rng)
    texts = Texts(options.cache)
    await texts.add([text for pair in found for text in (pair.one, pair.other)] + [row["text"] for row in bank])
    found.extend(pairs.far(HERE / "meanings.txt", texts.nearest))
    among = list(pairs.near_in_bank(bank, texts.nearest))
    found.extend(pair for _, pair in among)
    report = fitted(found, [texts.evidence(pair.one, pair.other) for pair in found], candidates=3, texts=len(bank))
    Path(verifier.__file__).with_name("verifier.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({"pairs": len(found), "thresholds": report["thresholds"], "always": report["always"]}))


def fitted(found: Sequence[pairs.Labelled], evidence: Sequence[Evidence], *, candidates: int, texts: int) -> dict[str, Any]:
    """What goes into `verifier.json`. The last `candidates` times `texts` pairs are BANKING77's, text by text."""
    values, judged = values_of(evidence)
    same = np.array([pair.same for pair in found])
    kinds = np.array([pair.kind for pair in found])
    weights = np.array([KINDS.get(pair.kind, 0.0) for pair in found])
    used = judged & (weights > 0)
    general = Additive(GENERAL, knots=2, ridge=10).fit(values[used], same[used], weights[used])
    wish = values[:, NAMES.index("wish")] > 0
    wished = judged & wish & np.isin(kinds, WISHERS)
    always = wish_weight(general, values[wished], same[wished])
    odds = np.where(judged, general(values) + always * wish, -np.inf)
    odds[[piece.identical for piece in evidence]] = np.inf
    limits = thresholds(np.where(same, np.nan, odds)[~same], kinds[~same])

    among = slice(len(found) - candidates * texts, len(found))
    banked = judged[among]
    crowd = Additive(CROWD, knots=7, ridge=10).fit(values[among][banked], same[among][banked], np.ones(int(banked.sum())))
    shape = (texts, candidates)
    shift = crowd_shift(
        odds[among].reshape(shape),
        np.where(np.isinf(odds[among]), odds[among], crowd(values[among])).reshape(shape),
        same[among].reshape(shape),
        np.isneginf(odds[among]).reshape(shape),
        dict(limits)[0.01],
    )
    base, curves = general.curves()
    crowd_base, crowd_curves = crowd.curves()
    return {
        "version": "1",
        "base": base,
        "curves": curves,
        "crowd_base": round(crowd_base + shift, 4),
        "crowd": crowd_curves,
        "crowded": CROWDED,
        "lenience": LENIENCE,
        "always": [{"name": "wish", "at": [0.0, 1.0], "adds": [0.0, round(always, 3)]}],
        "thresholds": limits,
    }


if __name__ == "__main__":
    asyncio.run(main())
