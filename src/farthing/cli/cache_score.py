"""`farthing cache score`: on the user's own data, without a running installation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from farthing.caching.reading import read
from farthing.caching.scoring import Asked, Pair, Read, score_pairs, score_traffic
from farthing.caching.tuning import tune
from farthing.caching.verifier import Verifier
from farthing.cli.rows import read_rows
from farthing.cli.texts import encoded
from farthing.errors import InvalidRequest

_SHAPES = "{a, b, same} for pairs of questions, or {text, intent, split} for traffic, split being train (seen) or test (asked)"

_FIELDS = {"intent": ("text", "intent", "split"), "same": ("a", "b", "same"), "a": ("a", "b", "same")}
"""The fields of a row, by what tells its kind."""

FileArgument = Annotated[Path, typer.Argument(help=f"Plain or gzipped JSON lines: {_SHAPES}.", metavar="PAIRS")]
DeltaOption = Annotated[float, typer.Option(help="At most this share of different questions may be taken for the same.", min=0.0, max=0.2)]


def score(
    pairs: FileArgument,
    delta: DeltaOption = 0.01,
    curve: Annotated[bool, typer.Option(help="With every threshold's figures.")] = True,  # noqa: FBT002 - a flag
) -> None:
    """Score the semantic cache's decision on labelled questions. Prints one JSON object.

    For pairs, `tuned` is what `farthing cache tune` would make of it: cross-fitted, so that no pair is judged by what was learnt from it.
    """
    rows = list(labelled(pairs))
    if "a" not in rows[0] and "text" not in rows[0]:
        raise InvalidRequest(f"{pairs}: rows are {_SHAPES}")
    verifier = Verifier.load()
    if "intent" in rows[0]:
        seen, asked = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
        if not seen or not asked:
            raise InvalidRequest(f"{pairs}: needs rows of split train (seen) and of split test (asked)")
        texts = read_texts([str(row["text"]) for row in [*seen, *asked]])
        marked = [Asked(read=text, intent=str(row["intent"])) for text, row in zip(texts, [*seen, *asked], strict=True)]
        found = msgspec.to_builtins(score_traffic(marked[: len(seen)], marked[len(seen) :], verifier, delta))
        found = {**found, "hit_rate_same": found["hit_rate"], "false_hit_rate": found["error"]}
    else:
        texts = read_texts([str(row[side]) for row in rows for side in ("a", "b")])
        marked_pairs = [Pair(a=a, b=b, same=bool(row["same"])) for a, b, row in zip(texts[::2], texts[1::2], rows, strict=True)]
        found = msgspec.to_builtins(score_pairs(marked_pairs, verifier, delta))
        tuned = tune(marked_pairs, verifier, delta).tuned
        kept = ("hit_rate_same", "false_hit_rate", "error", "threshold_or_policy")
        found["tuned"] = {name: getattr(tuned, name) for name in kept} if tuned is not None else None
    if not curve:
        found = {name: value for name, value in found.items() if name not in {"curve", "cosine_curve"}}
    print(json.dumps(found))


def labelled(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file, as `read_rows` does; of a kind that is not in `_SHAPES`, too: that is for the command to say."""
    return read_rows(path, _SHAPES, _FIELDS)


def read_texts(texts: Sequence[str]) -> list[Read]:
    """Texts as the cache reads them. Each text once, however often it comes."""
    made = dict(zip(texts, encoded(texts), strict=True))
    known = {text: Read(reading=read(text, one), vector=one.vector) for text, one in made.items()}
    return [known[text] for text in texts]
