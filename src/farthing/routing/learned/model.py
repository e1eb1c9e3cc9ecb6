"""A trained router: what each model's answer to a prompt would be worth, and which model is good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from farthing.errors import InvalidRequest
from farthing.lazily import Lazily
from farthing.routing.learned.artefact import Artefact, decode, encode, floats, vectors
from farthing.routing.learned.calibration import Threshold, highest
from farthing.routing.learned.features import NAMES
from farthing.routing.learned.members import Scale, cosines, kernel, nearest, neighbours_say, squared_distances
from farthing.routing.learned.outcomes import Table

if TYPE_CHECKING:
    import numpy as np
else:
    np = Lazily("numpy")

NEAR: Final = 8
"""So many nearest rows say whether a prompt is of a known kind."""
_FURTHEST: Final = 100.0
"""From the mean: no score is further off. A damaged router may say anything."""


class Prediction(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is expected of a prompt.

    `scores`: each model's, 0 to 1. `gains`: by how much the strongest is expected to be better than each of the others, -1 to 1.
    `spread`: how far the predictors that make up the router are apart about that (standard deviation, the largest of all models).
    `known`: whether the training rows had prompts like this one; if not, the rest is a guess.
    """

    scores: Mapping[str, float]
    gains: Mapping[str, float]
    spread: float
    known: bool


class Chosen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """`model` is the cheapest that is good enough; None for "don't know", where the router's default is due. `reason` is for people."""

    model: str | None
    reason: str


class LearnedModel:
    """Immutable, safe to share, and the same wherever it is loaded. See `training.train`."""

    def __init__(self, artefact: Artefact) -> None:
        self._artefact = artefact
        models = len(artefact.models)
        self._vectors = vectors(artefact.vectors, artefact.rows)
        self._scores = floats(artefact.scores, models)
        self._landmarks = floats(artefact.landmark_features, len(NAMES))
        self._scale = Scale(floats(artefact.feature_mean, len(NAMES))[0], floats(artefact.feature_factor, len(NAMES))[0])
        self._smooth = [(one.shape, floats(one.coefficients, models)) for one in artefact.smooth]
        self._means = np.array(artefact.means, np.float32)
        self._weights = np.array(artefact.weights)
        self._thresholds = dict(zip(artefact.models, artefact.thresholds, strict=False))

    @classmethod
    def load(cls, data: bytes, embedder: str | None = None) -> LearnedModel:
        """What `dump` gave. `embedder`: the version of the embedder that prompts will be read with, None where that is checked elsewhere.

        Raises `InvalidRequest` for what is no trained router, one of another version, or one for another embedder.
        """
        artefact = decode(data)
        if embedder is not None and artefact.embedder != embedder:
            raise InvalidRequest(f"This router was trained with the embedder {artefact.embedder!r}, not {embedder!r}; train it again.")
        return cls(artefact)

    def dump(self) -> bytes:
        """As msgpack, at most 16 MiB."""
        return encode(self._artefact)

    @property
    def embedder(self) -> str:
        """The version of the embedder whose vectors it knows."""
        return self._artefact.embedder

    @property
    def models(self) -> tuple[str, ...]:
        """The weakest, and cheapest, first."""
        return self._artefact.models

    @property
    def table(self) -> Table:
        """The rows that it was trained on. Features are standardised, and NaN for those that are no landmarks."""
        features = np.full((len(self._vectors), len(NAMES)), np.nan, np.float32)
        features[: len(self._landmarks)] = self._landmarks
        return Table(self._vectors, features, self._scores)

    @property
    def thresholds(self) -> Mapping[str, tuple[Threshold, ...]]:
        """For each model but the strongest; see `calibration`."""
        return self._thresholds

    def predict(self, vector: bytes, features: Sequence[float]) -> Prediction:
        """Of one prompt. Raises `InvalidRequest` when the vector or the features are not of the kind that it was trained with."""
        if len(vector) != self._vectors.shape[1] or len(features) != len(NAMES):
            wanted = f"{self._vectors.shape[1]} bytes and {len(NAMES)} features"
            raise InvalidRequest(f"This router reads prompts as {wanted}, not as {len(vector)} and {len(features)}.")
        cosine = cosines(np.frombuffer(vector, np.int8)[None], self._vectors)
        standard = self._scale(np.array([features], np.float32))
        distance = squared_distances(standard, self._landmarks)
        places = nearest(cosine, max(NEAR, self._artefact.neighbours))
        near = cosine[:, : len(self._landmarks)]
        said = [kernel(shape, near, distance)[0] @ coefficients for shape, coefficients in self._smooth]
        said.append(neighbours_say(places[:, : self._artefact.neighbours], self._scores, self._means)[0] - self._means)
        each = np.clip(np.stack(said), -_FURTHEST, _FURTHEST)
        scores = self._means + self._weights @ each
        differences = each[:, -1:] - each[:, :-1]
        known = cosine[0, places[0, :NEAR]].mean() >= self._artefact.near_cosine and distance.min() <= self._artefact.near_distance
        models = self._artefact.models
        gains = np.clip(scores[-1] - scores[:-1], -1, 1)
        return Prediction(
            scores=dict(zip(models, np.clip(scores, 0, 1).tolist(), strict=True)),
            gains=dict(zip(models, gains.tolist(), strict=False)),
            spread=float(differences.std(axis=0).max()),
            known=bool(known),
        )

    def choose(self, prediction: Prediction, quality: float, models: Sequence[str]) -> Chosen:
        """The cheapest of these models (names that it does not know are skipped) with which this share of the strongest's quality is kept.

        With several cheaper models what may be lost is divided evenly among them, so that all of them together keep the target.
        """
        mine = [model for model in self.models if model in models]
        if not mine:
            return Chosen(model=None, reason="the router was trained for other models")
        if not prediction.known:
            return Chosen(model=None, reason="unlike all prompts that the router was trained on")
        cheaper = [model for model in mine if model in self._thresholds]
        target = 1 - (1 - quality) / max(len(cheaper), 1)
        for model in cheaper:
            limit = highest(self._thresholds[model], target)
            gain = prediction.gains[model]
            if limit is not None and gain <= limit.gain:
                return Chosen(model=model, reason=f"expected loss {gain:.3f}, at most {limit.gain:.3f} for quality {quality:g}")
        return Chosen(model=mine[-1], reason=f"no cheaper model is expected to keep quality {quality:g}")
