"""What a learned router is trained on: prompts as numbers, and how good each model's answer was."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from farthing.errors import InvalidRequest
from farthing.lazily import Lazily

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Vectors = NDArray[np.int8]
else:
    np = Lazily("numpy")

MOST_ROWS: Final = 20_000
"""Rows that are learnt from; of more, a sample. Each is kept in the artefact (a byte for each dimension) and looked at by each decision."""

_MOST_BYTES: Final = 12 * 2**20

FEWEST_ROWS: Final = 20
MOST_MODELS: Final = 8


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A prompt (its embedding, int8, and its features) and the scores, 0 to 1, of the models whose answers to it are known."""

    vector: bytes
    features: tuple[float, ...]
    scores: Mapping[str, float]


class Table(msgspec.Struct, frozen=True):
    """Rows as matrices: `vectors` (n, dimensions), `features` (n, features), `scores` (n, models; NaN where not known)."""

    vectors: Vectors
    features: Floats
    scores: Floats

    def only(self, rows: NDArray[np.intp]) -> Table:
        """Some of the rows, in this order."""
        return Table(self.vectors[rows], self.features[rows], self.scores[rows])

    @property
    def gains(self) -> Floats:
        """By how much the strongest model, the last one, is better than each of the others; NaN where one is not known."""
        gains: Floats = self.scores[:, -1:] - self.scores[:, :-1]
        return gains


def table_of(rows: Sequence[Row], models: Sequence[str], seed: int, *, fewest: int = FEWEST_ROWS) -> Table:
    """Rows as matrices, in an order that does not depend on theirs. Raises `InvalidRequest` that says which row is wrong and how."""
    if not 2 <= len(models) <= MOST_MODELS or len(set(models)) < len(models):  # noqa: PLR2004 - one alone leaves no choice
        raise InvalidRequest(f"A router is between 2 and {MOST_MODELS} different models, the weakest first; these are {len(models)}.")
    used = [row for row in rows if any(model in row.scores for model in models)]
    if len(used) < fewest:
        raise InvalidRequest(
            f"{len(used)} rows with a score of one of {', '.join(models)[:200]} are too few to learn from: {fewest} at least."
        )
    used.sort(key=lambda row: _rank(row, models, seed))
    used = used[: min(MOST_ROWS, _MOST_BYTES // (len(used[0].vector) + 4 * len(models)))]
    _check(used, models)
    return Table(
        np.frombuffer(b"".join(row.vector for row in used), np.int8).reshape(len(used), -1),
        np.array([row.features for row in used], np.float32),
        np.array([[row.scores.get(model, math.nan) for model in models] for row in used], np.float32),
    )


def _rank(row: Row, models: Sequence[str], seed: int) -> tuple[bytes, tuple[float, ...], tuple[float, ...]]:
    """A pseudo-random order in which equal prompts are neighbours."""
    digest = hashlib.blake2b(row.vector, digest_size=16, key=seed.to_bytes(8, "little")).digest()
    return digest, row.features, tuple(row.scores.get(model, -1.0) for model in models)


def _check(rows: Sequence[Row], models: Sequence[str]) -> None:
    first = rows[0]
    for row in rows:
        if len(row.vector) != len(first.vector) or not row.vector:
            raise InvalidRequest(f"Vectors of {len(first.vector)} and of {len(row.vector)} bytes do not come from one embedder.")
        if len(row.features) != len(first.features) or not all(map(math.isfinite, row.features)):
            raise InvalidRequest(f"Each row needs the same {len(first.features)} finite features.")
        for model in models:
            if not 0 <= row.scores.get(model, 0.0) <= 1:
                raise InvalidRequest(f"The score of {model!r} must be 0 (useless) to 1, not {row.scores[model]}.")
    for index, model in enumerate(models):
        if not any(model in row.scores for row in rows):
            raise InvalidRequest(f"There is no score of {model!r} (number {index + 1} of the models) to learn from.")


def folds_of(table: Table, folds: int) -> NDArray[np.intp]:
    """For each row the number of its fold. Rows with the same vector, which are neighbours, have the same one."""
    new = np.any(table.vectors[1:] != table.vectors[:-1], axis=1)
    group = np.concatenate([np.zeros(1, np.intp), np.cumsum(new)])
    found: NDArray[np.intp] = group % folds
    return found
