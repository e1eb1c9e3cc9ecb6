"""The key of the exact cache: what changes an answer is in, what does not is out.

In: tenant, namespace, operation, the model asked for and what the settings map it to, the version of the prompt that was put in (its
other variants are not in the body), and every field of the body, known or not, but
for those below. Two bodies that differ only in white space between JSON tokens, order of object keys or escaping are the same.

Out, because they say how the answer travels or who pays and not what it is: `stream`, `stream_options`, `user`, `safety_identifier`,
`prompt_cache_key`, `prompt_cache_retention`, `metadata`, `store`, `service_tier`; and fields that are null, which mean the same as absent.

An answer that was made in a worse mode (`types.Mode`) has a key with the mode's name in it, so that it is never given in a better one.
"""

from __future__ import annotations

import hashlib

import msgspec

from farthing.types import Request

_encode = msgspec.json.Encoder(order="deterministic").encode

OUT = frozenset(
    {
        "model",  # in by its catalogue name and fingerprint
        "stream",
        "stream_options",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "metadata",
        "store",
        "service_tier",
    }
)


def exact_key(request: Request) -> bytes:
    """Where an answer to a request in the best mode is. 32 bytes.

    Parts are length-prefixed by JSON's own quoting, so that no two different requests run together.
    """
    body = {name: value for name, value in request.body.items() if name not in OUT and value is not None}
    who = request.principal.tenant
    parts = (who, request.extras.namespace, request.operation, request.model, request.fingerprint, body)
    return hashlib.sha256(_encode(parts if request.prompt_version is None else (*parts, request.prompt_version))).digest()


def keys_of(request: Request) -> tuple[bytes, ...]:
    """Where an answer may be, the best first; the last one is where one of the request's own mode belongs."""
    best = exact_key(request)
    return (best,) if request.mode.rank == 0 else (best, in_mode(best, request))


def in_mode(digest: bytes, request: Request) -> bytes:
    """The digest that stands for the same in the mode of a request."""
    return digest if request.mode.rank == 0 else hashlib.sha256(b"mode\0" + request.mode.name.encode() + b"\0" + digest).digest()


def temperature(request: Request) -> float:
    """The sampling temperature of a chat request: 1 unless named (OpenAI's default); 0 for embeddings."""
    if request.operation != "chat":
        return 0.0
    value = request.body.get("temperature")
    return float(value) if isinstance(value, int | float) else 1.0
