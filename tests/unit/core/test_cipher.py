"""Encryption at rest: what is sealed opens again, under the right key and for the right purpose, and nothing else does."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.cipher import CannotOpen, Cipher, key_of, open_cipher
from farthing.errors import SettingsError

ONE, TWO = b"1" * 32, b"2" * 32


@given(text=st.binary(max_size=300), about=st.binary(max_size=60))
def test_what_is_sealed_opens_again(text: bytes, about: bytes) -> None:
    cipher = Cipher(ONE)
    sealed = cipher.seal(text, about)
    assert cipher.open(sealed, about) == text
    assert len(text) < 8 or text not in sealed


def test_no_two_seals_are_the_same() -> None:
    cipher = Cipher(ONE)
    assert len({cipher.seal(b"same", b"a") for _ in range(100)}) == 100


@given(at=st.integers(0, 200), flip=st.integers(1, 255))
def test_every_changed_byte_is_noticed(at: int, flip: int) -> None:
    cipher = Cipher(ONE)
    sealed = bytearray(cipher.seal(b"a secret of some length", b"acme"))
    sealed[at % len(sealed)] ^= flip
    with pytest.raises(CannotOpen):
        cipher.open(bytes(sealed), b"acme")


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_what_is_cut_off_does_not_open(cut: int) -> None:
    cipher = Cipher(ONE)
    with pytest.raises(CannotOpen):
        cipher.open(cipher.seal(b"text", b"acme")[:cut], b"acme")


def test_another_tenants_text_does_not_open() -> None:
    cipher = Cipher(ONE)
    with pytest.raises(CannotOpen, match="another purpose"):
        cipher.open(cipher.seal(b"text", b"acme/1"), b"rival/1")


def test_a_rotated_key_opens_what_it_sealed_and_seals_nothing_more() -> None:
    before = Cipher(ONE).seal(b"old", b"")
    rotated = Cipher(TWO, [ONE])
    assert rotated.open(before, b"") == b"old"
    after = rotated.seal(b"new", b"")
    assert Cipher(TWO).open(after, b"") == b"new"
    with pytest.raises(CannotOpen, match="not among ours"):
        Cipher(ONE).open(after, b"")


def test_a_key_is_base64_or_a_passphrase() -> None:
    assert key_of(base64.b64encode(ONE).decode() + "\n", "x") == ONE
    phrase = key_of("correct horse battery staple", "x")
    assert len(phrase) == 32
    assert phrase == key_of("correct horse battery staple", "x")
    assert phrase != key_of("correct horse battery stable", "x")


@pytest.mark.parametrize("text", ["", "short", "YWJj", "ü" * 15])
def test_a_key_that_can_be_guessed_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(SettingsError, match=r"retention\.encryption_key") as caught:
        key_of(text, "retention.encryption_key")
    assert not text or text not in str(caught.value)


def test_the_key_of_the_data_folder_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "data" / "secret.key"
    with ThreadPoolExecutor(16) as pool:
        ciphers = list(pool.map(lambda _: open_cipher(None, [], file), range(16)))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secret.key"]
    sealed = ciphers[0].seal(b"text", b"")
    assert {cipher.open(sealed, b"") for cipher in ciphers} == {b"text"}


def test_the_settings_key_counts_before_the_file(tmp_path: Path) -> None:
    given_key = base64.b64encode(ONE).decode()
    cipher = open_cipher(given_key, [base64.b64encode(TWO).decode()], tmp_path / "secret.key")
    assert not list(tmp_path.iterdir())
    assert Cipher(ONE).open(cipher.seal(b"text", b""), b"") == b"text"
    assert cipher.open(Cipher(TWO).seal(b"old", b""), b"") == b"old"


@pytest.mark.parametrize("content", [b"", b"not base64!", b"YWJj\n", b"\xff\xfe"])
def test_a_damaged_key_file_is_a_settings_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "secret.key"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"secret\.key"):
        open_cipher(None, [], file)


def test_a_folder_that_cannot_be_written_is_a_settings_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match="cannot be written"):
        open_cipher(None, [], tmp_path / "file" / "secret.key")


def test_a_text_has_one_name_under_a_key_and_another_one_under_each_other_key() -> None:
    cipher = Cipher(bytes(32))
    assert cipher.name(b"a") == Cipher(bytes(32), [b"x" * 32]).name(b"a")
    assert len({cipher.name(b"a"), cipher.name(b"b"), Cipher(b"x" * 32).name(b"a")}) == 3
