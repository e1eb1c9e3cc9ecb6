"""The embedder on its real engine and weights."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from farthing.caching.evidence import compare
from farthing.caching.reading import read
from farthing.caching.verifier import Verifier
from farthing.errors import InvalidRequest, Overloaded, Unavailable
from farthing.providers.local.embedder import OnnxEmbedder
from farthing.providers.local.weights import MINILM, SHIPPED, PackagedFile, locate, locate_tokenizer

TEXTS = [
    "How do I reset my password?",
    "I forgot my password, how can I get a new one?",
    "The recipe needs two cups of flour.",
    "",
    "naïve café 東京の天気 🙂 \x00 end",
    "the quick brown fox " * 12,
    "half a pair \ud83d here",
]


def embedder(**bounds: int) -> OnnxEmbedder:
    return OnnxEmbedder(model=locate(MINILM), tokenizer=locate_tokenizer(MINILM), **bounds)


@pytest.fixture
async def encoder() -> AsyncIterator[OnnxEmbedder]:
    made = embedder(max_batch=8)
    yield made
    await made.aclose()


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


@pytest.mark.parametrize(
    "file", [file for weight in SHIPPED for file in (weight.file, weight.tokenizer) if file], ids=lambda file: file.path
)
def test_the_installed_files_are_the_published_ones(file: PackagedFile) -> None:
    path = next(
        found
        for weight in SHIPPED
        for part, find in ((weight.file, locate), (weight.tokenizer, locate_tokenizer))
        if part == file and (found := find(weight))
    )
    with path.open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256


async def test_vectors_are_unit_length_of_the_stated_dimensions(encoder: OnnxEmbedder) -> None:
    vectors, tokens = await encoder.embed(TEXTS)
    assert [len(vector) for vector in vectors] == [encoder.dimensions] * len(TEXTS) == [384] * len(TEXTS)
    assert all(abs(math.hypot(*vector) - 1) < 1e-5 for vector in vectors)
    assert tokens > len(TEXTS) * 2


async def test_paraphrases_are_nearer_than_strangers(encoder: OnnxEmbedder) -> None:
    (reset, forgot, flour), _ = await encoder.embed(TEXTS[:3])
    assert cosine(reset, forgot) > 0.7
    assert cosine(reset, flour) < 0.3


async def test_tokens_read_are_counted_and_long_texts_are_cut(encoder: OnnxEmbedder) -> None:
    assert (await encoder.embed(["hello world"]))[1] == 4  # [CLS] hello world [SEP]
    (long, longer), tokens = await encoder.embed(["word " * 254, "word " * 20_000])
    assert tokens == 2 * 256
    assert cosine(long, longer) > 0.999


async def test_concurrent_calls_share_batches_and_get_what_single_calls_get(encoder: OnnxEmbedder) -> None:
    singles = [(await encoder.embed([text]))[0][0] for text in TEXTS]
    before = encoder.batches
    together = await asyncio.gather(*(encoder.embed([text, text]) for text in TEXTS))
    assert encoder.batches - before <= 3  # 14 texts, 8 to a batch, and a little room for the token budget
    for single, (vectors, _) in zip(singles, together, strict=True):
        assert all(cosine(single, vector) > 0.999 for vector in vectors)


async def test_a_short_call_does_not_wait_behind_a_long_one(encoder: OnnxEmbedder) -> None:
    long = asyncio.create_task(encoder.embed(["a chapter of a book"] * 200))
    await asyncio.sleep(0)
    await encoder.embed(["a question"])
    assert not long.done()
    assert len((await long)[0]) == 200


async def test_no_texts_give_no_vectors(encoder: OnnxEmbedder) -> None:
    assert await encoder.embed([]) == ([], 0)
    assert encoder.batches == 0


async def test_a_full_queue_refuses_more_and_serves_what_it_took() -> None:
    encoder = embedder(max_queue=10, max_batch=4)
    first = asyncio.create_task(encoder.embed(["first"] * 8))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refused:
        await encoder.embed(["second"] * 8)
    assert refused.value.retry_after_s is not None
    assert len((await first)[0]) == 8
    assert len((await encoder.embed(["third"] * 8))[0]) == 8
    await encoder.aclose()


async def test_a_call_that_could_never_fit_says_the_limit() -> None:
    encoder = embedder(max_queue=10)
    with pytest.raises(InvalidRequest, match="at most 10") as refused:
        await encoder.embed(["x"] * 11)
    assert refused.value.param == "input"
    await encoder.aclose()


async def test_a_cancelled_call_leaves_the_queue(encoder: OnnxEmbedder) -> None:
    await encoder.embed(["warm up"])
    long = asyncio.create_task(encoder.embed(["a chapter of a book"] * 500))
    await asyncio.sleep(0.01)
    waiting = encoder.queued
    before = encoder.batches
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    assert waiting > 400
    assert encoder.queued == 0
    await encoder.embed(["next"])
    assert encoder.batches <= before + 1


async def test_several_threads_compute_several_batches() -> None:
    encoder = embedder(threads=2, max_batch=2)
    vectors, _ = await encoder.embed([f"text number {number}" for number in range(12)])
    again, _ = await encoder.embed(["text number 7"])
    assert cosine(vectors[7], again[0]) > 0.999
    await encoder.aclose()


async def test_closing_cancels_calls_and_refuses_new_ones() -> None:
    encoder = embedder()
    waiting = asyncio.create_task(encoder.embed(["x"] * 300))
    await asyncio.sleep(0)
    await encoder.aclose()
    assert (await asyncio.gather(waiting, return_exceptions=True))[0].__class__ is asyncio.CancelledError
    with pytest.raises(Unavailable, match="closed"):
        await encoder.embed(["y"])
    await encoder.aclose()


async def test_a_broken_model_file_is_unavailable_to_every_waiting_call(tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"not a model")
    encoder = OnnxEmbedder(model=broken, tokenizer=locate_tokenizer(MINILM))
    outcomes = await asyncio.gather(*(encoder.embed(["x"]) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
    assert "cannot be loaded" in str(outcomes[0])
    await encoder.aclose()


async def test_encoding_gives_the_same_directions_as_embedding(encoder: OnnxEmbedder) -> None:
    vectors, _ = await encoder.embed(TEXTS)
    encoded = await encoder.encode(TEXTS)
    for vector, text in zip(vectors, encoded, strict=True):
        signed = [byte - 256 if byte > 127 else byte for byte in text.vector]
        assert len(signed) == encoder.dimensions
        assert max(map(abs, signed)) == 127
        assert cosine(vector, [float(component) for component in signed]) > 0.998


async def test_each_token_has_a_row_and_a_place_in_the_text(encoder: OnnxEmbedder) -> None:
    text = "How do I reset my photosynthesis?"
    (encoded,) = await encoder.encode([text])
    pieces = [text[start:end] for start, end in encoded.spans]
    assert pieces[:5] == ["How", "do", "I", "reset", "my"]
    assert "".join(pieces[5:]) == "photosynthesis?"
    width = len(encoded.words) // len(encoded.spans)
    rarity = [encoded.words[place * width] for place in range(len(pieces))]
    assert width == 29
    assert len(encoded.words) == width * len(pieces)
    assert rarity[0] < max(rarity[5:-1])
    assert not encoded.cut


async def test_a_text_beyond_the_limit_is_cut_and_says_so(encoder: OnnxEmbedder) -> None:
    within, beyond, endless, empty = await encoder.encode(["word " * 254, "word " * 255, "x" * 100_000, ""])
    assert not within.cut
    assert beyond.cut
    assert len(within.spans) == len(beyond.spans) == 254
    assert endless.cut
    assert (empty.words, empty.spans, empty.cut) == (b"", (), False)


async def test_texts_to_embed_and_to_encode_share_batches(encoder: OnnxEmbedder) -> None:
    (vectors, _), encoded = await asyncio.gather(encoder.embed(TEXTS[:3]), encoder.encode(TEXTS[3:6]))
    assert (len(vectors), len(encoded)) == (3, 3)
    assert encoder.batches == 1


async def test_the_shipped_decision_tells_paraphrases_from_look_alikes(encoder: OnnxEmbedder) -> None:
    verifier = Verifier.load()

    async def accepted(one: str, other: str) -> bool:
        a, b = await encoder.encode([one, other])
        similarity = cosine(*([float(byte - 256 if byte > 127 else byte) for byte in text.vector] for text in (a, b)))
        return verifier.score(compare(read(one, a), read(other, b), similarity)) >= verifier.threshold(0.01)

    password = "How do I reset my password?"
    assert await accepted(password, "Forgot password help, please")
    assert await accepted(password, "Where is the password reset link?")
    assert await accepted("How tall is Mount Everest?", "What is the height of Mount Everest?")
    assert not await accepted(password, "How do I reset my entire database?")
    assert not await accepted("flights from Oslo to Rome", "flights from Rome to Oslo")
    assert not await accepted(password, "How do I choose a strong password?")
