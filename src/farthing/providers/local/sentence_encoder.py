"""all-MiniLM-L6-v2 on ONNX Runtime: texts in, unit vectors and word rows out. Blocking; `embedder` calls it from its threads.

Pooling is the model's own: the mean of the token vectors under the attention mask, then L2 normalisation (Reimers and Gurevych,
Sentence-BERT, 2019, https://arxiv.org/abs/1908.10084; `1_Pooling/config.json` and `modules.json` of the model).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from farthing.errors import Unavailable
from farthing.providers.local.word_rows import WordRows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

_LONGEST_WORD = 100  # WordPiece reads a longer word as one [UNK]: so many characters can hide behind one token
_LARGE_TOKENS = 512  # 50 ms of computing: beside it, the millisecond of giving memory back is nothing


class Sentence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A text, read. `vector` has unit length, `tokens` counts [CLS] and [SEP] too. `words`, `spans`, `cut`: see `ports.Encoded`."""

    vector: list[float]
    tokens: int
    words: bytes
    spans: tuple[tuple[int, int], ...]
    cut: bool


class SentenceEncoder:
    """The model, loaded at first use. Safe to call from several threads; each call computes in its caller's thread.

    `max_tokens` is where texts are cut ([CLS] and [SEP] included), `max_batch_tokens` the most tokens, padding included, that the
    model reads at once: activations take about 40 KB for each.
    """

    def __init__(self, model: Path, tokenizer: Path, *, max_tokens: int, max_batch_tokens: int) -> None:
        self._model_path = model
        self._tokenizer_path = tokenizer
        self._max_tokens = max_tokens
        self._max_batch_tokens = max_batch_tokens
        self._lock = threading.Lock()
        self._loaded: tuple[Tokenizer, Any, WordRows] | None = None

    def encode(self, texts: Sequence[str]) -> list[Sentence]:
        """The texts, read, in order. Raises `Unavailable` when the model cannot be loaded."""
        tokenizer, session, words = self._load()
        readable = [self._readable(text) for text in texts]
        encodings = [tokenizer.encode(text) for text in readable]
        counts = [len(encoding.ids) for encoding in encodings]
        sentences: dict[int, Sentence] = {}
        for group in groups_within(counts, self._max_batch_tokens):
            vectors, tokens = self._infer(session, [encodings[index] for index in group])
            for row, index in enumerate(group):
                encoding = encodings[index]
                sentences[index] = Sentence(
                    vector=vectors[row].tolist(),
                    tokens=counts[index],
                    words=words.rows(encoding.ids[1:-1], tokens[row, 1 : counts[index] - 1]),
                    spans=tuple(encoding.offsets[1:-1]),
                    cut=bool(encoding.overflowing) or len(readable[index]) < len(texts[index]),
                )
        if sum(counts) > _LARGE_TOKENS:
            _give_back_freed_memory()
        return [sentences[index] for index in range(len(texts))]

    def token_vectors(self, texts: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """For each text the vectors of its tokens, [CLS] and [SEP] left out, as the model gives them. For fitting a projection."""
        tokenizer, session, _ = self._load()
        for text in texts:
            encoding = tokenizer.encode(self._readable(text))
            yield self._infer(session, [encoding])[1][0, 1:-1]

    def unload(self) -> None:
        """Let go of the model's memory. The next call loads it again."""
        with self._lock:
            self._loaded = None
        _give_back_freed_memory()

    def _readable(self, text: str) -> str:
        """Without lone surrogates, which are not UTF-8, and without what no token can come from before the cut."""
        return text[: self._max_tokens * _LONGEST_WORD].encode("utf-8", "replace").decode()

    def _infer(self, session: Any, encodings: Sequence[Encoding]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Unit vectors, shape (texts, dimensions), and the vectors of the tokens, shape (texts, longest, dimensions)."""
        import numpy as np  # noqa: PLC0415 - 20 MB that a gateway without local embeddings does without

        width = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), width), dtype=np.int64)  # 0 is [PAD]
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        tokens: NDArray[np.float32] = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})[0]
        weights = mask[:, :, None].astype(np.float32)
        means = (tokens * weights).sum(axis=1) / weights.sum(axis=1)  # never 0: [CLS] and [SEP] are always there
        unit: NDArray[np.float32] = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return unit, tokens

    def _load(self) -> tuple[Tokenizer, Any, WordRows]:
        with self._lock:
            if self._loaded is None:
                try:
                    self._loaded = self._open_tokenizer(), self._open_session(), WordRows.load()
                except Exception as error:  # the libraries raise bare Exceptions; whatever it is, there is no embedder now
                    raise Unavailable(f"the local embedding model cannot be loaded: {error}", retry_after_s=5.0) from error
                _give_back_freed_memory()
            return self._loaded

    def _open_tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer  # noqa: PLC0415 - native code, only for local embeddings

        tokenizer = Tokenizer.from_file(str(self._tokenizer_path))
        tokenizer.no_padding()  # the file pads everything to 128; batches are padded to their longest text instead
        tokenizer.enable_truncation(self._max_tokens)
        return tokenizer

    def _open_session(self) -> Any:
        import onnxruntime  # noqa: PLC0415 - native code, only for local embeddings

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # parallel by texts, not inside one: steadier, and no spinning threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False  # the arena never shrinks: 850 MB after one large batch, against 300
        options.enable_mem_pattern = False
        options.log_severity_level = 3  # errors
        return onnxruntime.InferenceSession(str(self._model_path), options, providers=["CPUExecutionProvider"])


def groups_within(counts: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of texts to read together, of like length, so that (texts times longest) stays within the budget of tokens.

    A text that is longer than the budget makes a group of its own.
    """
    group: list[int] = []
    for index in sorted(range(len(counts)), key=counts.__getitem__):
        if group and (len(group) + 1) * counts[index] > budget:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _give_back_freed_memory() -> None:
    """Loading leaves 60 MB of freed protobuf in glibc's heap, a large batch as much of activations. Other C libraries lack the function."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
