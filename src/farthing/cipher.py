"""Encryption at rest: AES-256-GCM (NIST SP 800-38D) under a key from the settings, or one made once in the data folder.

A sealed text is: one byte of version, eight of key id, twelve of nonce, then ciphertext and tag. The key id lets keys be rotated: new
texts are sealed with the current key, old ones opened with whichever key they name. Nonces are random: a key is good for 2^32 texts
(SP 800-38D, 8.3), which lasts 248 days at two hundred a second; rotate before.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from farthing.errors import SettingsError

_VERSION = b"\x01"
_KEY_BYTES = 32
_ID_BYTES = 8
_NONCE_BYTES = 12
_NAME_BYTES = 16
_HEAD_BYTES = len(_VERSION) + _ID_BYTES + _NONCE_BYTES
_SALT = b"farthing/encryption-key/1"
_SHORTEST_PASSPHRASE = 16


class CannotOpen(Exception):
    """A sealed text that none of our keys opens: sealed under another key, for another purpose, or damaged."""


class Cipher:
    """Seals and opens. `key` and each of `old` have 32 bytes; texts are sealed with `key` alone."""

    def __init__(self, key: bytes, old: Sequence[bytes] = ()) -> None:
        self._id = _key_id(key)
        self._digesting = hmac.digest(key, b"farthing digest key", "sha256")
        self._keys = {_key_id(one): AESGCM(one) for one in (*old, key)}
        self._naming = hashlib.sha256(b"farthing names" + key).digest()

    def seal(self, text: bytes, about: bytes) -> bytes:
        """Encrypt. `about` says whose text it is and what for; it is not kept, and must be given again to open."""
        nonce = os.urandom(_NONCE_BYTES)
        head = _VERSION + self._id + nonce
        return head + self._keys[self._id].encrypt(nonce, text, head + about)

    def digest(self, text: bytes, about: bytes) -> bytes:
        """32 bytes that are equal for equal texts under the same key, and tell nobody who lacks it what the text is (HMAC-SHA-256)."""
        return hmac.digest(self._digesting, b"%d\0%s%s" % (len(about), about, text), "sha256")

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """Decrypt. Raises `CannotOpen`."""
        head, rest = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES:]
        key = self._keys.get(head[1 : 1 + _ID_BYTES])
        if len(head) < _HEAD_BYTES or not head.startswith(_VERSION):
            raise CannotOpen("this was not sealed by Farthing, or by a newer one")
        if key is None:
            raise CannotOpen(f"sealed under the key {head[1 : 1 + _ID_BYTES].hex()}, which is not among ours")
        try:
            return key.decrypt(head[1 + _ID_BYTES :], rest, head + about)
        except InvalidTag:
            raise CannotOpen("damaged, or sealed for another purpose") from None

    def name(self, text: bytes) -> bytes:
        """16 bytes that stand for a text: always the same ones under one key, and without the key nobody can try texts against them."""
        return hmac.digest(self._naming, text, "sha256")[:_NAME_BYTES]


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"farthing key id" + key).digest()[:_ID_BYTES]


def open_cipher(key: str | None, old: Sequence[str], file: Path) -> Cipher:
    """The cipher of an installation. `key` and `old` are as the settings have them; without a key, the one in `file`, made if missing.

    Takes 0.1 s for each key that is a passphrase. Raises `SettingsError`.
    """
    current = key_of(key, "retention.encryption_key") if key is not None else _key_in(file)
    return Cipher(current, [key_of(one, "retention.old_encryption_keys") for one in old])


def key_of(text: str, setting: str) -> bytes:
    """32 bytes in base64 as they are, any other text through scrypt (RFC 7914; N=2^15, r=8, p=1: 32 MiB and 0.1 s a guess).

    The salt is the same everywhere, so that all hosts come to the same key: a passphrase must be a long one.
    """
    with contextlib.suppress(binascii.Error, ValueError):
        raw = base64.b64decode(text.strip(), validate=True)
        if len(raw) == _KEY_BYTES:
            return raw
    if len(text) < _SHORTEST_PASSPHRASE:
        how = f"32 bytes in base64 (`openssl rand -base64 32`) or a passphrase of at least {_SHORTEST_PASSPHRASE} characters"
        raise SettingsError(f"{setting}: must be {how}")
    return hashlib.scrypt(text.encode(), salt=_SALT, n=2**15, r=8, p=1, maxmem=2**26, dklen=_KEY_BYTES)


def _key_in(file: Path) -> bytes:
    """The key in a file of its own. Of processes that start together one makes it, and nobody ever sees half of it."""
    if not file.exists():
        _make(file)
    try:
        raw = base64.b64decode(file.read_text(encoding="ascii").strip(), validate=True)
    except (OSError, ValueError) as error:
        raise SettingsError(f"the encryption key in {file} cannot be read: {error}") from None
    if len(raw) != _KEY_BYTES:
        raise SettingsError(f"the encryption key in {file} is damaged: restore the file, or delete it and lose what was stored under it")
    return raw


def _make(file: Path) -> None:
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        with contextlib.suppress(FileExistsError):  # another process was faster: its key counts
            os.link(draft, file)
    except OSError as error:
        raise SettingsError(f"the encryption key cannot be written to {file}: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
