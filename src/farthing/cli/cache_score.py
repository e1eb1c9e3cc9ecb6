"""`farthing cache score`: on the user's own data, without a running installation. And how such data are read."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from farthing.caching.reading import read
from farthing.caching.scoring import Asked, Pair, Read, score_pairs, score_traffic
from farthing.caching.tuning import tune
from farthing.caching.verifier import Verifier
from farthing.errors import InvalidRequest
from farthing.ports import Embedder
from farthing.providers.local.embedder import OnnxEmbedder
from farthing.providers.local.weights import MINILM, locate, locate_tokenizer

_Made = TypeVar("_Made")
_BATCH = 512
_LONGEST_LINE = 4 * 2**20
_MOST_ROWS = 1_000_000
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
    rows = list(read_rows(pairs))
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


def read_rows(path: Path, shapes: str = _SHAPES) -> Iterator[dict[str, Any]]:
    """The rows of a file, plain or gzipped JSON lines; at least one. Raises `InvalidRequest` that says which line is wrong and how.

    `shapes` is what rows are, in words.
    """
    wanted: tuple[str, ...] | None = None
    try:
        with gzip.open(path, "rt", encoding="utf-8") if _gzipped(path) else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                if len(line) > _LONGEST_LINE or number > _MOST_ROWS:
                    raise InvalidRequest(f"{path}: at most {_MOST_ROWS} lines of {_LONGEST_LINE} characters")
                row = _object(path, number, line, shapes)
                if wanted is None:
                    wanted = next((fields for mark, fields in _FIELDS.items() if mark in row), ())
                missing = [name for name in wanted if name not in row]
                if missing:
                    raise InvalidRequest(f"{path}, line {number}: {missing[0]} is missing; rows are {shapes}")
                yield row
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from None
    if wanted is None:
        raise InvalidRequest(f"{path} has no rows; rows are {shapes}")


def _gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _object(path: Path, number: int, line: str, shapes: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path}, line {number} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InvalidRequest(f"{path}, line {number} is not a JSON object; rows are {shapes}")
    return row


def read_texts(texts: Sequence[str]) -> list[Read]:
    """Texts as the cache reads them. Each text once, however often it comes."""
    distinct = list(dict.fromkeys(texts))
    encoded = asyncio.run(_each(distinct, lambda embedder, some: embedder.encode(some)))
    known = {text: Read(reading=read(text, one), vector=one.vector) for text, one in zip(distinct, encoded, strict=True)}
    return [known[text] for text in texts]


def embedded(texts: Sequence[str]) -> list[list[float]]:
    """Texts as unit vectors."""

    async def vectors(embedder: Embedder, some: Sequence[str]) -> list[list[float]]:
        return (await embedder.embed(some))[0]

    return asyncio.run(_each(texts, vectors))


async def _each(texts: Sequence[str], work: Callable[[Embedder, Sequence[str]], Awaitable[list[_Made]]]) -> list[_Made]:
    embedder: Embedder = OnnxEmbedder(model=locate(MINILM), tokenizer=locate_tokenizer(MINILM), threads=2, max_queue=2 * _BATCH)
    made: list[_Made] = []
    try:
        for start in range(0, len(texts), _BATCH):
            made += await work(embedder, texts[start : start + _BATCH])
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{len(made)} of {len(texts)} texts read")
    finally:
        await embedder.aclose()
    return made
