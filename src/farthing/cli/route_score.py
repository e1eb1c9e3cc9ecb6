"""`farthing route score` and `farthing route train`: on the user's own data, without a running installation."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from farthing.cli.rows import numbered_rows
from farthing.cli.texts import encoded
from farthing.errors import InvalidRequest
from farthing.providers.local.embedder import VERSION
from farthing.routing.learned.features import features_of
from farthing.routing.learned.model import LearnedModel
from farthing.routing.learned.outcomes import FEWEST_ROWS, MOST_ROWS, Row, table_of
from farthing.routing.learned.prompt import text_of_prompt
from farthing.routing.learned.scoring import Scored, Target, cross_validated, report, seen, whole_table
from farthing.routing.learned.training import trained_on
from farthing.types import Json

SHAPES = "{prompt, weak, strong}, or {prompt, outcomes: {MODEL: score}}, scores being 0 (useless) to 1"
_FIELDS = {"outcomes": ("prompt", "outcomes"), "prompt": ("prompt", "weak", "strong")}
_CHEAP = 0.1

TrainOption = Annotated[Path, typer.Option("--train", help=f"Rows to learn from, plain or gzipped JSON lines: {SHAPES}.")]
ModelsOption = Annotated[
    str | None, typer.Option(help="The models, weakest and cheapest first, by commas. For weak/strong rows: what these two are called.")
]
SeedOption = Annotated[int, typer.Option(help="Of folds and resamples.", min=0)]


def score(
    train: Annotated[Path | None, typer.Option(help=f"Rows to learn from, plain or gzipped JSON lines: {SHAPES}.")] = None,
    test: Annotated[Path | None, typer.Option(help="Rows to score on. The training rows, cross-validated, unless given.")] = None,
    model: Annotated[Path | None, typer.Option(help="A trained router (see `farthing route train`) instead of rows to learn from.")] = None,
    models: ModelsOption = None,
    quality: Annotated[float, typer.Option(help="The share of the strongest model's quality to keep.", min=0.01, max=1.0)] = 0.95,
    price_ratio: Annotated[float, typer.Option(help="The weak model's price in proportion to the strong one's.", min=0.0)] = _CHEAP,
    prices: Annotated[str | None, typer.Option(help="Instead: a price for each model, in any unit, weakest first, by commas.")] = None,
    seed: SeedOption = 1,
) -> None:
    """Score a learned router: how much of the strong model's advantage it keeps at which share of strong calls. Prints one JSON object."""
    if (train is None) == (model is None) or (model is not None and test is None):
        raise InvalidRequest("Give --train FILE, with or without --test FILE, or --model FILE and --test FILE.")
    head: dict[str, Any]
    if model is not None and test is not None:
        router = LearnedModel.load(_bytes(model), VERSION)
        names = names_of(models) or router.models
        if set(names) != set(router.models):
            raise InvalidRequest(f"{model} was trained for {', '.join(router.models)}, not for {', '.join(names)}.")
        target = _target(router.models, quality, price_ratio, prices)
        scored = seen(router, whole_table(rows_of(read_scores(test), router.models), router.models), router.table, quality)
        head = {"n_train": len(router.table.vectors), "models": list(router.models), "cross_validated": False}
    else:
        assert train is not None
        scored, target, head = _trained_and_scored(train, test, models, (quality, price_ratio, prices), seed)
    print(json.dumps({**report(scored, target, seed), **head}))


def _trained_and_scored(
    train: Path, test: Path | None, models: str | None, wanted: tuple[float, float, str | None], seed: int
) -> tuple[Scored, Target, dict[str, Any]]:
    read, unseen = read_scores(train), read_scores(test) if test is not None else None
    names = names_of(models) or by_score(read)
    quality = wanted[0]
    target = _target(names, *wanted)
    rows = rows_of(read, names)
    if unseen is None:
        table = whole_table(rows, names, fewest=FEWEST_ROWS)
        scored = cross_validated(table, names, embedder=VERSION, quality=quality, seed=seed)
    else:
        table = table_of(rows, names, seed)
        tested = whole_table(rows_of(unseen, names), names)
        scored = seen(trained_on(table, names, embedder=VERSION, seed=seed).model, tested, table, quality)
    return scored, target, {"n_train": len(table.vectors), "models": list(names), "cross_validated": unseen is None}


def read_scores(path: Path) -> list[tuple[str, dict[str, float]]]:
    """Prompts and scores. Of too many rows a sample: always the same one, whatever their order."""
    found = [_row(path, number, row) for number, row in numbered_rows(path, SHAPES, _FIELDS)]
    if len(found) > MOST_ROWS:
        found.sort(key=lambda pair: hashlib.blake2b(pair[0].encode("utf-8", "replace"), digest_size=16).digest())
    return found[:MOST_ROWS]


def _row(path: Path, number: int, row: dict[str, Any]) -> tuple[str, dict[str, float]]:
    prompt = row.get("prompt")
    if not isinstance(prompt, str):
        raise InvalidRequest(f"{path}, line {number}: the prompt must be a text; rows are {SHAPES}")
    outcomes = row["outcomes"] if "outcomes" in row else {name: row[name] for name in ("weak", "strong")}
    if not isinstance(outcomes, dict) or not all(map(_is_score, outcomes.values())):
        raise InvalidRequest(f"{path}, line {number}: scores must be numbers from 0 to 1; rows are {SHAPES}")
    return prompt, {name: float(value) for name, value in outcomes.items()}


def _is_score(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= 1


def rows_of(read: Sequence[tuple[str, dict[str, float]]], names: Sequence[str]) -> list[Row]:
    """With their embeddings. `weak` and `strong` get the names of the two models."""
    bodies: list[Json] = [{"messages": [{"role": "user", "content": prompt}]} for prompt, _ in read]
    called = dict(zip(("weak", "strong"), names, strict=True)) if len(names) == 2 else {}  # noqa: PLR2004 - these two
    return [
        Row(vector=one.vector, features=features_of(body), scores={called.get(name, name): score for name, score in scores.items()})
        for one, body, (_, scores) in zip(encoded([text_of_prompt(body) for body in bodies]), bodies, read, strict=True)
    ]


def names_of(models: str | None) -> tuple[str, ...]:
    """The models that are named; empty when none are."""
    return tuple(name.strip() for name in models.split(",") if name.strip()) if models is not None else ()


def by_score(read: Sequence[tuple[str, dict[str, float]]]) -> tuple[str, ...]:
    """`weak` and `strong`; other models by their mean scores."""
    sums: dict[str, tuple[float, int]] = {}
    for _, scores in read:
        for name, value in scores.items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = total + value, count + 1
    if sums.keys() == {"weak", "strong"}:
        return "weak", "strong"
    return tuple(sorted(sums, key=lambda name: (sums[name][0] / sums[name][1], name)))


def _target(models: Sequence[str], quality: float, price_ratio: float, prices: str | None) -> Target:
    if prices is None:
        steps = len(models) - 1
        return Target(quality=quality, prices=tuple(price_ratio ** (1 - at / steps) if at < steps else 1.0 for at in range(len(models))))
    try:
        found = tuple(float(price) for price in prices.split(","))
    except ValueError:
        raise InvalidRequest(f"--prices must be numbers, by commas, not {prices[:100]!r}.") from None
    if len(found) != len(models) or not all(math.isfinite(price) and price >= 0 for price in found) or not found[-1]:
        raise InvalidRequest(f"--prices needs {len(models)} numbers, none below 0 and the last one above it, for {', '.join(models)}.")
    return Target(quality=quality, prices=found)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from None
