"""The texts of one request as they are kept: JSON, cut to a size, sealed for its tenant and its id. Pure."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from farthing.cipher import CannotOpen, Cipher
from farthing.types import Json, StoredTranscript

_encode = msgspec.json.Encoder().encode


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A text that was too long: the beginning of its JSON, and how many bytes there were."""

    cut: bool = True
    size: int
    beginning: str


class Transcript(msgspec.Struct, frozen=True, kw_only=True):
    """`request` is the body as the stages saw it, in OpenAI's shape whichever door it came in by.

    `answer` is OpenAI's response object, or null. `error`: why there is no answer, or why it is not whole. What was too long is a `Cut`.
    """

    request: msgspec.Raw
    answer: msgspec.Raw
    error: str | None = None


class Sealing:
    """Packs and opens transcripts. `max_bytes` is for both texts of one request together."""

    def __init__(self, cipher: Cipher, max_bytes: int) -> None:
        self._cipher = cipher
        self._max_bytes = max_bytes

    def seal(self, tenant: str, request_id: UUID, request: Json, answer: bytes | None, error: str | None) -> bytes:
        """The sealed payload. `answer` is encoded already. Raises ValueError or TypeError for what is no JSON."""
        asked = _encode(request)
        said = answer or b"null"
        half = self._max_bytes // 2
        asked, said = cut(asked, max(half, self._max_bytes - len(said))), cut(said, max(half, self._max_bytes - len(asked)))
        whole = Transcript(request=msgspec.Raw(asked), answer=msgspec.Raw(said), error=error)
        return self._cipher.seal(_encode(whole), _about(tenant, request_id))

    def open(self, stored: StoredTranscript) -> Any:
        """The transcript as plain JSON. Raises `CannotOpen`."""
        opened = self._cipher.open(stored.payload, _about(stored.tenant, stored.request_id))
        try:
            return msgspec.json.decode(opened)
        except msgspec.MsgspecError as error:
            raise CannotOpen(f"another version of Farthing wrote it: {error}") from None


def cut(text: bytes, most: int) -> bytes:
    """JSON as it is, or its beginning as a `Cut`."""
    if len(text) <= most:
        return text
    return _encode(Cut(size=len(text), beginning=text[:most].decode(errors="ignore")))


def _about(tenant: str, request_id: UUID) -> bytes:
    return b"transcript\0%s\0%s" % (tenant.encode(), request_id.bytes)
