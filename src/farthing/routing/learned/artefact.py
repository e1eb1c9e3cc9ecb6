"""What a trained router is made of, and how it is kept: as msgpack, with nothing in it that could be run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from farthing.errors import InvalidRequest
from farthing.lazily import Lazily
from farthing.routing.learned import features
from farthing.routing.learned.calibration import Threshold
from farthing.routing.learned.members import Shape
from farthing.routing.learned.outcomes import MOST_MODELS, MOST_ROWS

if TYPE_CHECKING:
    import numpy as np

    from farthing.routing.learned.outcomes import Floats, Vectors
else:
    np = Lazily("numpy")

VERSION: Final = 1
MOST_BYTES: Final = 16 * 2**20
_MOST: Final = 1e9


class Smooth(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel ridge regression: `coefficients` (landmarks, models), float32, of score - mean."""

    shape: Shape
    coefficients: bytes


class Artefact(msgspec.Struct, frozen=True, kw_only=True, tag="farthing-router"):
    """A trained router. Matrices are rows in a row, little-endian.

    `vectors` (rows, dimensions, int8) and `scores` (rows, models, float32) are the training rows; the first `landmarks` of them span the
    smooth functions, and of these there are `landmark_features` (standardised, float32) as well. `weights`: of the smooth functions in
    order, then of the neighbours. A prompt is known when the mean cosine to the nearest rows is at least `near_cosine`, and the squared
    distance of its features to those of the nearest landmark at most `near_distance`. `thresholds`: for each model but the last.
    """

    version: int = VERSION
    features_version: int = features.VERSION
    embedder: Annotated[str, msgspec.Meta(max_length=256)]
    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=2, max_length=MOST_MODELS)]
    rows: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)]
    landmarks: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)]
    vectors: bytes
    scores: bytes
    landmark_features: bytes
    feature_mean: bytes
    feature_factor: bytes
    means: tuple[float, ...]
    smooth: Annotated[tuple[Smooth, ...], msgspec.Meta(max_length=8)]
    neighbours: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)]
    weights: tuple[float, ...]
    near_cosine: float
    near_distance: float
    thresholds: tuple[tuple[Threshold, ...], ...]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Artefact)
_versions = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])


def encode(artefact: Artefact) -> bytes:
    """At most `MOST_BYTES`."""
    return _encoder.encode(artefact)


def decode(data: bytes) -> Artefact:
    """Raises `InvalidRequest` for what is no trained router, or one of another version of Farthing."""
    if len(data) > MOST_BYTES:
        raise InvalidRequest(f"A trained router has at most {MOST_BYTES} bytes; this has {len(data)}.")
    try:
        head = _versions.decode(data)
        version, of_features = (msgspec.msgpack.decode(head[name], type=int) for name in ("version", "features_version"))
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("This is not a trained router (`farthing route train --out FILE` writes one).") from None
    if (version, of_features) != (VERSION, features.VERSION):
        raise InvalidRequest(f"This router was trained by another version of Farthing (format {version}.{of_features}); train it again.")
    try:
        artefact = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"This trained router is damaged: {error}.") from None
    _check(artefact)
    return artefact


def _check(artefact: Artefact) -> None:
    """Sizes must fit each other, and numbers be finite."""
    rows, models, landmarks = artefact.rows, len(artefact.models), artefact.landmarks
    right = (
        len(set(artefact.models)) == models
        and landmarks <= rows
        and len(artefact.vectors) > 0
        and len(artefact.vectors) % rows == 0
        and len(artefact.scores) == 4 * rows * models
        and len(artefact.feature_mean) == len(artefact.feature_factor) == 4 * len(features.NAMES)
        and len(artefact.landmark_features) == landmarks * len(artefact.feature_mean)
        and all(len(smooth.coefficients) == 4 * landmarks * models for smooth in artefact.smooth)
        and len(artefact.weights) == len(artefact.smooth) + 1
        and len(artefact.means) == models
        and len(artefact.thresholds) == models - 1
    )
    if not right:
        raise InvalidRequest("This trained router is damaged: its parts do not fit each other.")
    matrices = [artefact.feature_mean, artefact.feature_factor, artefact.landmark_features, *(s.coefficients for s in artefact.smooth)]
    plain = [*artefact.means, *artefact.weights, artefact.near_cosine, artefact.near_distance]
    if not all((np.abs(floats(matrix, 1)) < _MOST).all() for matrix in matrices) or not (np.abs(plain) < _MOST).all():
        raise InvalidRequest("This trained router is damaged: not all its numbers are believable.")


def floats(data: bytes, columns: int) -> Floats:
    """A matrix of float32."""
    return np.frombuffer(data, "<f4").reshape(-1, columns)


def vectors(data: bytes, rows: int) -> Vectors:
    """A matrix of int8."""
    return np.frombuffer(data, np.int8).reshape(rows, -1)
