"""What people say of answers, as it is kept: scrubbed of secrets, sealed for its tenant. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec
from msgspec.structs import replace

from farthing.cipher import CannotOpen, Cipher
from farthing.types import Feedback

_TEXTS: Final = ("correction", "reason")


class FeedbackSealing:
    """Seals and opens the texts of feedback. Score, and whether there is a correction, stay in clear."""

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def seal(self, said: Feedback) -> Feedback:
        """With sealed texts, in base64, and the digest of what they were."""
        words = msgspec.json.encode((said.score, said.correction, said.reason))
        digest = self._cipher.digest(words, b"feedback\0%s" % said.request_id.bytes)
        return replace(said, digest=digest, **{name: self._sealed(said, name) for name in _TEXTS})

    def _sealed(self, said: Feedback, name: str) -> str | None:
        text = getattr(said, name)
        if text is None:
            return None
        return base64.b64encode(self._cipher.seal(text.encode(), _about(said, name))).decode()

    def open(self, kept: Feedback) -> Feedback:
        """With texts that can be read. Raises `CannotOpen`."""
        return replace(kept, **{name: self._opened(kept, name) for name in _TEXTS})

    def _opened(self, kept: Feedback, name: str) -> str | None:
        sealed = getattr(kept, name)
        if sealed is None:
            return None
        try:
            return self._cipher.open(base64.b64decode(sealed, validate=True), _about(kept, name)).decode()
        except (binascii.Error, ValueError) as error:
            raise CannotOpen(f"it is damaged: {error}") from None


def _about(said: Feedback, name: str) -> bytes:
    return b"feedback\0%s\0%s\0%s" % (said.tenant.encode(), said.id.bytes, name.encode())
