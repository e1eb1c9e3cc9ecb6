"""Embeddings in this process: concurrent calls share batches, waiting is bounded, a cancelled call leaves the queue."""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from farthing.errors import FarthingError, InvalidRequest, Overloaded, Unavailable
from farthing.ports import Encoded
from farthing.providers.local.sentence_encoder import Sentence, SentenceEncoder

VERSION = "all-MiniLM-L6-v2 int8, words 28 v1"
"""Model and quantisation, projection of the words. Changes with any of them: what is stored under another version is never compared."""

_Batch = list[tuple["_Call", int]]
"""Which text (by its place in its call) of which call."""


class OnnxEmbedder:
    """The port `Embedder` for a sentence encoder on ONNX Runtime. The model is loaded, in a thread, by the first call.

    A batch forms while the one before it is computed, so nobody waits when nobody else is there. It takes up to `max_batch` texts,
    about `max_batch_tokens` tokens, and one text of each waiting call in turn: a short question does not wait behind a long document.
    `max_queue` bounds the waiting texts; `threads` batches are computed at the same time.
    """

    def __init__(
        self,
        *,
        model: Path,
        tokenizer: Path,
        dimensions: int = 384,
        max_tokens: int = 256,
        threads: int = 1,
        max_batch: int = 32,
        max_batch_tokens: int = 1024,
        max_queue: int = 1024,
    ) -> None:
        self.dimensions = dimensions
        self.version = VERSION
        self._encoder = SentenceEncoder(model, tokenizer, max_tokens=max_tokens, max_batch_tokens=max_batch_tokens)
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="local-embedder")
        self._max_tokens = max_tokens
        self._threads = threads
        self._max_batch = max_batch
        self._max_batch_tokens = max_batch_tokens
        self._max_queue = max_queue
        self._calls: deque[_Call] = deque()  # those with waiting texts, the next one to be served first
        self._queued = 0
        self._running: dict[asyncio.Future[list[Sentence]], _Batch] = {}
        self._closed = False
        self.batches = 0

    @property
    def queued(self) -> int:
        """Texts that wait for a batch."""
        return self._queued

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """One unit vector per text, in order, and the number of tokens read. Texts are cut at `max_tokens` word pieces.

        Raises `Overloaded` when the queue is full, `InvalidRequest` when the call alone would not fit into an empty one, and
        `Unavailable` when the model cannot be loaded or the embedder is closed.
        """
        sentences = await self._read(texts)
        return [sentence.vector for sentence in sentences], sum(sentence.tokens for sentence in sentences)

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """The texts as the semantic cache reads them, in order. Raises as `embed` does."""
        return [
            Encoded(vector=_int8(sentence.vector), words=sentence.words, spans=sentence.spans, cut=sentence.cut)
            for sentence in await self._read(texts)
        ]

    async def _read(self, texts: Sequence[str]) -> list[Sentence]:
        self._admit(len(texts))
        if not texts:
            return []
        call = _Call(texts, asyncio.get_running_loop().create_future())
        self._calls.append(call)
        self._queued += len(texts)
        # Not at once: whoever else calls in this turn of the event loop shall be in the same batch.
        asyncio.get_running_loop().call_soon(self._pump)
        try:
            await call.done
        finally:
            self._drop(call)
        return [call.read[index] for index in range(len(texts))]

    async def aclose(self) -> None:
        """Cancel what waits, wait for what is being computed, stop the threads, and let go of the model."""
        self._closed = True
        waiting = {call for batch in self._running.values() for call, _ in batch} | set(self._calls)
        for call in waiting:
            call.done.cancel()
        await asyncio.get_running_loop().run_in_executor(None, partial(self._pool.shutdown, wait=True, cancel_futures=True))
        self._encoder.unload()

    def _admit(self, texts: int) -> None:
        if self._closed:
            raise Unavailable("the local embedder is closed")
        if texts > self._max_queue:
            raise InvalidRequest(f"{texts} texts in one call; this installation embeds at most {self._max_queue}", param="input")
        if self._queued + texts > self._max_queue:
            raise Overloaded(f"{self._queued} texts wait to be embedded already, of at most {self._max_queue}", retry_after_s=1.0)

    def _pump(self) -> None:
        """Hand batches to idle threads."""
        while self._calls and len(self._running) < self._threads and not self._closed:
            batch = self._take()
            texts = [call.texts[index] for call, index in batch]
            run = asyncio.get_running_loop().run_in_executor(self._pool, self._encoder.encode, texts)
            self._running[run] = batch
            self.batches += 1
            run.add_done_callback(self._settle)

    def _take(self) -> _Batch:
        """The next batch: one text of each waiting call in turn, at least one."""
        batch: _Batch = []
        tokens = 0
        while self._calls and len(batch) < self._max_batch:
            call = self._calls[0]
            tokens += self._estimated_tokens(call.texts[call.next])
            if batch and tokens > self._max_batch_tokens:
                break
            batch.append((call, call.next))
            call.next += 1
            self._queued -= 1
            if call.waiting:
                self._calls.rotate(-1)
            else:
                self._calls.popleft()
        return batch

    def _estimated_tokens(self, text: str) -> int:
        """Three bytes of UTF-8 a token fits English and Chinese alike; the encoder counts for itself and splits what is too much."""
        return min(self._max_tokens, 2 + len(text[: 3 * self._max_tokens].encode("utf-8", "replace")) // 3)

    def _settle(self, run: asyncio.Future[list[Sentence]]) -> None:
        """Give the results of a batch to its calls, and start the next."""
        batch = self._running.pop(run)
        if run.cancelled():
            return
        error = run.exception()
        if error is not None:
            for call, _ in batch:
                call.fail(error)
        else:
            for (call, index), sentence in zip(batch, run.result(), strict=True):
                call.receive(index, sentence)
        self._pump()

    def _drop(self, call: _Call) -> None:
        """Take what still waits of a call out of the queue."""
        if call.waiting:
            self._queued -= call.waiting
            call.next = len(call.texts)
            self._calls.remove(call)


class _Call:
    """A call under way. `next` is the first of its texts that is in no batch yet."""

    def __init__(self, texts: Sequence[str], done: asyncio.Future[None]) -> None:
        self.texts = texts
        self.done = done
        self.read: dict[int, Sentence] = {}
        self.next = 0

    @property
    def waiting(self) -> int:
        return len(self.texts) - self.next

    def receive(self, index: int, sentence: Sentence) -> None:
        self.read[index] = sentence
        if len(self.read) == len(self.texts) and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            known = error if isinstance(error, FarthingError) else Unavailable(f"the local embedder failed: {error}")
            self.done.set_exception(known)


def _int8(vector: Sequence[float]) -> bytes:
    """Scaled so that the largest component is 127 or -127. Cosines are off by less than 0.002."""
    scale = 127.0 / max(*vector, -min(vector), 1e-12)
    return array("b", [round(component * scale) for component in vector]).tobytes()
