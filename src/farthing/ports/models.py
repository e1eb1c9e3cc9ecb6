"""Models: vendors, their signatures, the embedder. See `ports`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from farthing.types import (
    Completion,
    Json,
)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt at one deployment, as a provider sees it.

    `body` is the client's; the provider puts its own model name in. `last`: there is nowhere else to turn, so that waiting for something
    that is coming back is better than an error. `foreign`: see `types.Request`.
    """

    upstream_model: str
    body: Json
    request_id: UUID
    traceparent: str | None = None
    last: bool = True
    foreign: bool = False


class Provider(Protocol):
    """A model vendor or server.

    Every failure is raised as one of the `Upstream…` errors, as `Overloaded` when a bounded queue of ours is full, or as
    `InvalidRequest` when the request can be seen to be wrong before it is sent.

    A provider keeps its connections open between calls and limits their number. Cancelling a call, or closing the iterator of a
    stream, ends the exchange with the vendor: nothing is generated, or billed, for nobody.
    """

    name: str
    kind: str

    @property
    def open_connections(self) -> int:
        """Sockets to the vendor, in use or idle."""

    async def healthy(self) -> bool:
        """Whether the vendor's server says that it is up. Costs nothing; never raises an `UpstreamError`."""

    async def chat(self, call: Call) -> Completion:
        """A whole chat completion (`chunks` is None)."""

    def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        """A streamed chat completion: (chunk, usage) pairs in order, at least one of the two set.

        Usage is OpenAI's usage object, taken out of the chunk wherever the vendor put it: on a chunk with choices, or on one of its own.
        Ends after the vendor's end mark; raises `UpstreamUnavailable` when the vendor broke off before it.
        """

    async def embed(self, call: Call) -> Completion:
        """An embeddings response object."""

    async def aclose(self) -> None:
        """Let go of connections."""


class Signer(Protocol):
    """Signs requests for a vendor that takes signatures instead of a key, as AWS does."""

    async def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """What to send beside `headers`, which are signed too (names in lower case, `host` among them).

        Raises `UpstreamRefusedUs`, `UpstreamUnavailable` or `UpstreamTimeout` when there are no credentials.
        """

    def renew(self, signed: Mapping[str, str]) -> bool:
        """The vendor said that what signed these headers has expired: use something newer from now on.

        False when there is nothing newer to be had. A no-op, and True, when it is replaced already.
        """

    def secrets(self) -> Sequence[str]:
        """What must not show in any message."""


class Encoded(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A text as the semantic cache reads it.

    `vector` is the sentence's embedding, int8, one byte for each dimension, scaled so that the largest component is 127 or -127: cosines
    do not see the scale. `words` holds one row for each token, [CLS] and [SEP] left out: a byte that says how rare the token is (0 to 255),
    then its vector, projected to few dimensions, int8, scaled likewise. `spans` says where each of these tokens is in the text (start and
    end, in characters). `cut`: the text was longer than the model reads.
    """

    vector: bytes
    words: bytes
    spans: tuple[tuple[int, int], ...]
    cut: bool = False


class Embedder(Protocol):
    """Turns texts into unit-length vectors on this machine.

    `version` names model, quantisation and projection: vectors of different versions cannot be compared.
    """

    dimensions: int
    version: str

    async def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Texts as the semantic cache reads them, in order. Raises as `embed` does."""

    async def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """One vector per text, in order, and the number of tokens read. Longer texts are cut at the model's limit.

        Raises `Overloaded` when the queue is full. Cancelling a call takes its texts out of the queue.
        """

    async def aclose(self) -> None:
        """Stop the threads and let go of the model. Calls under way are cancelled."""
