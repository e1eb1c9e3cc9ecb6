"""The pairs that the shipped verifier is fitted to, and where each comes from.

- `written`: meanings that were written for this project (`meanings.txt`), within and between the lines of a block;
- `far`: nearest questions of different blocks;
- `edited`, `ordered`: questions after small edits (`edits.py`), of the written ones, of BANKING77's training texts (CC BY 4.0, PolyAI,
  Casanueva et al., 2020) and of user prompts of Arena-Hard, MT-bench and OpenAssistant (Apache-2.0);
- `desk`: a grammar of help-desk requests (`helpdesk.py`);
- `bank`: near questions of BANKING77's training texts; same when of one intent.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import edits
import helpdesk
import msgspec


class Labelled(msgspec.Struct, frozen=True):
    """Two texts, whether they ask the same, and where they come from."""

    one: str
    other: str
    same: bool
    kind: str


Nearest = Callable[[Sequence[str], int], Sequence[Sequence[int]]]
"""For each of these texts the places of so many others that are nearest, nearest first."""


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def blocks(path: Path) -> list[list[list[str]]]:
    """Blocks of meanings of texts."""
    found: list[list[list[str]]] = []
    for part in path.read_text().split("\n\n"):
        lines = [line for line in part.splitlines() if line.strip() and not line.startswith("#")]
        if lines:
            found.append([[text.strip() for text in line.split("|")] for line in lines])
    return found


def prompts(path: Path) -> list[str]:
    """First turns of 4 to 25 words on one line."""
    firsts = (row["turns"][0] for row in rows(path))
    return sorted({text for text in firsts if "\n" not in text and 4 <= len(text.split()) <= 25})


def written(found: Sequence[Sequence[Sequence[str]]]) -> Iterator[Labelled]:
    for block in found:
        for meaning in block:
            for one, other in itertools.combinations(meaning, 2):
                yield Labelled(one, other, same=True, kind="written")
        for meaning, another in itertools.combinations(block, 2):
            for one, other in itertools.product(meaning, another):
                yield Labelled(one, other, same=False, kind="written")


def edited(base: str, harmful: edits.Harmful, rng: Random, alternatives: Sequence[str] = ()) -> Iterator[Labelled]:
    changed = _benign(base, rng, rng.choice((1, 1, 2, 2, 3)))
    if changed != base:
        yield Labelled(base, changed, same=True, kind="edited")
    for _ in range(2):
        source = rng.choice([*alternatives, base]) if rng.random() < 0.4 else base
        damaged = edits.chosen(source, harmful.edits, rng)
        if damaged:
            yield Labelled(base, _benign(damaged, rng, rng.choice((0, 0, 0, 1, 1, 2))), same=False, kind="edited")
    moved = edits.reorder(base, rng)
    if moved and moved != base:
        yield Labelled(base, _benign(moved, rng, rng.choice((0, 0, 1))), same=True, kind="ordered")
    for _ in range(2):
        swapped = edits.swap(base, rng)
        if swapped:
            yield Labelled(base, _benign(swapped, rng, rng.choice((0, 0, 0, 1))), same=False, kind="ordered")


def _benign(text: str, rng: Random, times: int) -> str:
    for _ in range(times):
        text = edits.chosen(text, edits.BENIGN, rng) or text
    return text


def without_vectors(
    meanings: Path, prompt_file: Path, bank: Sequence[dict[str, Any]], harmful: edits.Harmful, rng: Random
) -> list[Labelled]:
    """All pairs that no embedder is needed for."""
    topics = blocks(meanings)
    found = list(written(topics))
    for block in topics:
        for meaning in block:
            for text in meaning:
                found.extend(edited(text, harmful, rng, [other for other in meaning if other != text]))
    for text in prompts(prompt_file):
        found.extend(edited(text, harmful, rng))
    for row in rng.sample(list(bank), 2500):
        found.extend(edited(row["text"], harmful, rng))
    found.extend(Labelled(one, other, same=bool(same), kind="desk") for one, other, same, _ in helpdesk.pairs(rng))
    return found


def far(meanings: Path, nearest: Nearest) -> Iterator[Labelled]:
    """The two nearest questions of other blocks."""
    texts = [(text, number) for number, block in enumerate(blocks(meanings)) for meaning in block for text in meaning]
    for place, near in enumerate(nearest([text for text, _ in texts], 40)):
        others = [texts[there][0] for there in near if texts[there][1] != texts[place][1]]
        for other in others[:2]:
            yield Labelled(texts[place][0], other, same=False, kind="far")


def near_in_bank(bank: Sequence[dict[str, Any]], nearest: Nearest) -> Iterator[tuple[int, Labelled]]:
    """The three nearest of each of BANKING77's training texts, with the place of the text."""
    for place, near in enumerate(nearest([row["text"] for row in bank], 3)):
        for there in near:
            yield (
                place,
                Labelled(bank[place]["text"], bank[there]["text"], same=bank[place]["intent"] == bank[there]["intent"], kind="bank"),
            )
