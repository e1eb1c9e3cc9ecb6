"""Token vectors of all-MiniLM-L6-v2, made small enough to keep a million questions in memory.

A row is what the semantic cache keeps of a token: one byte that says how rare it is, then its vector in the model's last layer, projected
onto few dimensions and scaled to int8.

Rarity comes out of the vocabulary itself: BERT's word pieces are numbered by falling frequency in the corpus they were made from, after
about two thousand characters, so that log2 of the number grows as the information in the word does (Zipf's law).

The projection (`minilm_words.npy`, 384 rows of float16) is made by `bench/verifier/projection.py` from BANKING77's training texts
(CC BY 4.0, PolyAI) and from user prompts of Arena-Hard, MT-bench and OpenAssistant (Apache-2.0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_FILE: Final = Path(__file__).with_name("minilm_words.npy")
_FIRST_WORD: Final = 1995
"""Word pieces below are single characters and marks."""


class WordRows:
    """Projects token vectors. `projection` has the shape (dimensions of the model, dimensions kept)."""

    def __init__(self, projection: NDArray[np.float32]) -> None:
        self._projection = projection

    @classmethod
    def load(cls) -> WordRows:
        """The projection that comes with Farthing."""
        import numpy as np  # noqa: PLC0415 - 20 MB that a gateway without local embeddings does without

        return cls(np.load(_FILE).astype(np.float32))

    def rows(self, ids: Sequence[int], tokens: NDArray[np.float32]) -> bytes:
        """One row for each token."""
        import numpy as np  # noqa: PLC0415 - as above

        projected = tokens @ self._projection
        largest = np.maximum(np.abs(projected).max(axis=1, keepdims=True), 1e-9)
        rows = np.empty((len(ids), projected.shape[1] + 1), np.int8)
        rows[:, 0] = np.array([rarity(number) for number in ids], np.uint8).view(np.int8)
        rows[:, 1:] = np.rint(projected * (127.0 / largest))
        return rows.tobytes()


def rarity(number: int) -> int:
    """0 for the most frequent word pieces and for single characters, 237 for the rarest: sixteen times log2 of the place."""
    return round(16 * math.log2(max(number - _FIRST_WORD, 1)))
