"""The search engine inside Redis or Valkey: one index of vectors, filtered by one tag.

Of the `FT.` commands only `FT.CREATE` and `FT.SEARCH` are used, and of those only what Redis (RediSearch), Valkey (valkey-search),
ElastiCache and MemoryDB have in common: hashes, TAG, HNSW over FLOAT32, a KNN query with a tag before it, PARAMS, LIMIT, TIMEOUT and
DIALECT 2. Valkey 8.2 has no queries without a vector, and on some engines the index follows the keys a little later: so deleting and
counting never ask the index (see `layout`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from redis.exceptions import NoPermissionError, ResponseError

from farthing.redis.engine import Command
from farthing.redis.layout import Layout

_M = 16
_EF_CONSTRUCTION = 200
"""How HNSW's graph is built (Malkov and Yashunin, 2016, arXiv:1603.09320): the defaults of all four engines, named so that they stay."""
_EF_RUNTIME = 64
"""Candidates looked at by a query. The engines' 10 is too few to find the nearest reliably among much alike questions."""

_MISSING = ("no such index", "unknown index name", "not found")
_EXISTS = "already exists"


class Found(msgspec.Struct, frozen=True, gc=False):
    """One answer to a search. `body` and `vector` are None when the hash is gone, or the engine does not hand it out with the answer."""

    key: bytes
    distance: float
    body: bytes | None
    vector: bytes | None


def creation(layout: Layout) -> Command:
    """The command that makes the index. Hashes that are there already are added to it by the engine, in the background."""
    hnsw = (
        *("TYPE", layout.vector_type.upper(), "DIM", layout.dimensions, "DISTANCE_METRIC", "COSINE"),
        *("M", _M, "EF_CONSTRUCTION", _EF_CONSTRUCTION, "EF_RUNTIME", _EF_RUNTIME),
    )
    fields = ("p", "TAG", "v", "VECTOR", "HNSW", len(hnsw), *hnsw)
    return ("FT.CREATE", layout.base, "ON", "HASH", "PREFIX", 1, layout.entries, "SCHEMA", *fields)


def nearest(layout: Layout, place: str, vector: bytes, most: int, timeout_s: float) -> Command:
    """The command that finds the nearest questions of a place."""
    query = f"(@p:{{{place}}})=>[KNN {most} @v $v]"
    milliseconds = max(round(timeout_s * 1000), 1)
    return (
        *("FT.SEARCH", layout.base, query, "PARAMS", 2, "v", vector),
        *("LIMIT", 0, most, "TIMEOUT", milliseconds, "DIALECT", 2),
    )


def answers(reply: Any) -> list[Found]:
    """What a search found, in the engine's order: a count, then a key and its fields for each."""
    if not isinstance(reply, list):
        return []
    return [_found(key, fields) for key, fields in zip(reply[1::2], reply[2::2], strict=False)]


def _found(key: bytes, fields: Iterable[Any] | None) -> Found:
    parts = list(fields or ())
    named = dict(zip(parts[::2], parts[1::2], strict=False))
    return Found(key=key, distance=_number(named.get(b"__v_score")), body=named.get(b"b"), vector=named.get(b"v"))


def _number(text: bytes | None) -> float:
    try:
        return float(text or b"nan")
    except ValueError:
        return float("nan")


def is_missing(error: BaseException | None) -> bool:
    """Whether an error says that there is no such index: the engine was restarted without its data, or flushed, or is new."""
    said = str(error).lower()
    return isinstance(error, ResponseError) and any(words in said for words in _MISSING)


def exists(error: BaseException | None) -> bool:
    """Whether an error says that another worker made the index already."""
    return isinstance(error, ResponseError) and _EXISTS in str(error).lower()


def is_refused(error: BaseException | None) -> bool:
    """Whether an error says that this user may not give the command, or that the engine does not have it."""
    return isinstance(error, NoPermissionError) or (isinstance(error, ResponseError) and "unknown" in str(error).lower())
