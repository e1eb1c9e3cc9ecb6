"""Fit the projection of token vectors: `python bench/verifier/projection.py DATA` writes `minilm_words.npy`.

The 28 directions in which the unit token vectors of all-MiniLM-L6-v2 (int8) vary most, about the origin (principal components without
centring, so that cosines stay cosines), over every third of BANKING77's training texts (CC BY 4.0, PolyAI) and the user prompts of
Arena-Hard, MT-bench and OpenAssistant (Apache-2.0). They keep 36% of the variance; the verifier does as well on them as on all 384
dimensions (`docs/decisions/0007-verifier-of-the-semantic-cache.md`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pairs
from numpy.typing import NDArray

from farthing.providers.local import word_rows
from farthing.providers.local.sentence_encoder import SentenceEncoder
from farthing.providers.local.weights import MINILM, locate, locate_tokenizer

KEPT = 28


def principal(vectors: NDArray[np.float32]) -> NDArray[np.float16]:
    """Shape (dimensions, KEPT). The largest component of each direction is positive, so that the result does not depend on the solver."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    _, directions = np.linalg.eigh(unit.T @ unit / len(unit))
    kept = directions[:, ::-1][:, :KEPT]
    signs = np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(KEPT)])
    projection: NDArray[np.float16] = (kept * signs).astype(np.float16)
    return projection


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--to", type=Path, default=Path(word_rows.__file__).with_name("minilm_words.npy"))
    options = parser.parse_args()
    data = options.data
    bank = [row["text"] for row in pairs.rows(data / "cache/banking77.jsonl.gz") if row["split"] == "train"][::3]
    prompts = [turn for row in pairs.rows(data / "prompts/replay_prompts.jsonl.gz") for turn in row["turns"]]
    encoder = SentenceEncoder(locate(MINILM), locate_tokenizer(MINILM), max_tokens=256, max_batch_tokens=1024)
    vectors = np.concatenate(list(encoder.token_vectors(sorted({*bank, *prompts}))))
    np.save(options.to, principal(vectors))


if __name__ == "__main__":
    main()
