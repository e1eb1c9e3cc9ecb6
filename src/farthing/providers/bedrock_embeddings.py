"""Embeddings on Amazon Bedrock: each family of models has a format of its own (AWS, "Inference request parameters and response fields").

Amazon Titan takes one text a call, Cohere up to 96. `input_type` and other fields of the vendor's own may be sent along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from farthing.errors import InvalidRequest, UpstreamMalformed
from farthing.providers.bedrock_answers import an_object
from farthing.providers.wire import excerpt
from farthing.types import Json

_COUNT = "x-amzn-bedrock-input-token-count"
_OURS = frozenset({"input", "model", "encoding_format", "dimensions", "user"})
_MAX_TEXTS = 2048
"""OpenAI's own limit. For Titan each of them is a call."""
_TITAN_V1 = "titan-embed-text-v1"


class Family(msgspec.Struct, frozen=True):
    """How a family of models is asked: texts per call, the body for some texts, and the vectors in an answer."""

    batch: int
    body: Callable[[str, Sequence[str], Json], Json]
    vectors: Callable[[Json], Any]


def texts_of(body: Json) -> list[str]:
    """The texts to embed. Raises `InvalidRequest` for token ids, which mean nothing to another vendor's models."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise InvalidRequest("Amazon Bedrock embeds texts: input is a text or a list of texts, none of them empty.", param="input")
    if len(texts) > _MAX_TEXTS:
        raise InvalidRequest(f"input has {len(texts)} texts; {_MAX_TEXTS} are allowed.", param="input")
    return texts


def family_of(model: str) -> Family:
    """The family of a model id or ARN. Raises `InvalidRequest`."""
    for part, family in _FAMILIES.items():
        if part in model:
            return family
    raise InvalidRequest(f"Farthing knows Amazon Titan's and Cohere's embeddings on Amazon Bedrock, not {model!r}.", param="model")


def read(name: str, family: Family, wanted: int, headers: Mapping[str, str], data: bytes) -> tuple[list[list[float]], int | None]:
    """Vectors of one call, and its number of input tokens where it was told. Raises `UpstreamMalformed`."""
    body = an_object(name, data)
    try:
        vectors = family.vectors(body)
    except (KeyError, TypeError):
        vectors = None
    if not isinstance(vectors, list) or len(vectors) != wanted or not all(isinstance(one, list) and one for one in vectors):
        raise UpstreamMalformed(f"{name} answered without {wanted} embeddings: {excerpt(data)}")
    told = headers.get(_COUNT, "")
    count = body.get("inputTextTokenCount", int(told) if told.isdecimal() else None)
    return vectors, count if type(count) is int else None


def answer(model: str, vectors: Sequence[list[float]], tokens: int | None) -> Json:
    """OpenAI's embeddings response. Without a count there is no usage: it is then estimated, and said to be."""
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(vectors)]
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return {"object": "list", "data": data, "model": model, **usage}


def _more(body: Json) -> Json:
    return {name: value for name, value in body.items() if name not in _OURS and value is not None}


def _titan(model: str, texts: Sequence[str], body: Json) -> Json:
    dimensions = body.get("dimensions")
    if dimensions is not None and _TITAN_V1 in model:
        raise InvalidRequest(f"{model} has vectors of one length: leave dimensions out.", param="dimensions")
    return {"inputText": texts[0], **({"dimensions": dimensions} if dimensions is not None else {}), **_more(body)}


def _cohere(model: str, texts: Sequence[str], body: Json) -> Json:
    del model
    dimensions = body.get("dimensions")
    length = {"output_dimension": dimensions} if dimensions is not None else {}
    return {"texts": list(texts), "input_type": "search_document", "embedding_types": ["float"], **length, **_more(body)}


def _titan_vectors(body: Json) -> Any:
    return [body["embedding"]]


def _cohere_vectors(body: Json) -> Any:
    found = body["embeddings"]
    return found["float"] if isinstance(found, dict) else found


_FAMILIES = {
    "titan-embed-text": Family(1, _titan, _titan_vectors),
    "cohere.embed": Family(96, _cohere, _cohere_vectors),
}
