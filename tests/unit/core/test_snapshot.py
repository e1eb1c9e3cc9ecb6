from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest

from farthing.snapshot import Snapshot


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    worth: int = 0


class Wider(msgspec.Struct, frozen=True, kw_only=True):
    """`Fact` of a later version."""

    name: str
    worth: int = 0
    tags: list[str] = []


FACTS = [Fact(name=f"fact {number}", worth=number) for number in range(20)]


def made(folder: Path, *, version: int = 1, max_bytes: int = 10**6) -> Snapshot[Fact]:
    return Snapshot(folder / "snapshot", "facts", Fact, version=version, max_bytes=max_bytes)


def records(snapshot: Snapshot[Fact]) -> list[Fact] | None:
    saved = snapshot.read()
    return None if saved is None else saved.records


def test_what_was_written_is_read_and_nobody_else_can_read_it(tmp_path: Path) -> None:
    snapshot = made(tmp_path)
    assert snapshot.read() is None
    assert snapshot.write(FACTS)
    assert records(made(tmp_path)) == FACTS
    assert snapshot.path.stat().st_mode & 0o777 == 0o600
    assert snapshot.path.parent.stat().st_mode & 0o777 == 0o700
    assert snapshot.write([])
    assert records(snapshot) == [], "none is something else than not known"


def test_a_draft_never_shows_and_never_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The disk is full in the middle of a write."""
    snapshot = made(tmp_path)
    snapshot.write(FACTS)

    def no_room(_: int) -> None:
        assert records(snapshot) == FACTS, "the old one stays until the new one is whole"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    assert not snapshot.write(FACTS[:3])
    assert records(snapshot) == FACTS
    assert [path.name for path in snapshot.path.parent.iterdir()] == ["facts.jsonl"]
    assert "No space left on device" in caplog.text


def test_a_folder_that_cannot_be_made_is_said_and_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "snapshot").write_text("a file")
    assert not made(tmp_path).write(FACTS)
    assert made(tmp_path).read() is None
    assert "could not be written" in caplog.text
    assert "cannot be read" in caplog.text


@hypothesis.given(at=st.integers(0, 2000), bit=st.integers(0, 7))
@hypothesis.settings(max_examples=80, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_one_wrong_bit_in_its_records_and_it_counts_as_none(tmp_path: Path, at: int, bit: int) -> None:
    snapshot = made(tmp_path)
    snapshot.write(FACTS)
    data = bytearray(snapshot.path.read_bytes())
    body = data.index(b"\n") + 1
    data[body + at % (len(data) - body)] ^= 1 << bit
    snapshot.path.write_bytes(data)
    assert snapshot.read() is None


@hypothesis.given(data=st.binary(max_size=300), cut=st.integers(0, 800))
@hypothesis.settings(max_examples=80, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_whatever_is_in_its_place_it_is_ignored(tmp_path: Path, data: bytes, cut: int) -> None:
    snapshot = made(tmp_path)
    snapshot.write(FACTS)
    whole = snapshot.path.read_bytes()
    for damaged in (data, whole[: cut % len(whole)], whole + data + b"x", data + b"x" + whole, bytes(len(whole))):
        snapshot.path.write_bytes(damaged)
        assert snapshot.read() is None
    assert snapshot.write(FACTS)
    assert records(snapshot) == FACTS


def test_another_version_or_another_name_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(tmp_path).write(FACTS)
    assert made(tmp_path, version=2).read() is None
    path = made(tmp_path).path
    path.rename(path.with_name("others.jsonl"))
    assert Snapshot(path.parent, "others", Fact).read() is None
    assert "it holds facts in version 1, not others in version 1" in caplog.text


def test_a_field_more_or_less_is_the_same_version(tmp_path: Path) -> None:
    made(tmp_path).write(FACTS)
    later = Snapshot(tmp_path / "snapshot", "facts", Wider)
    saved = later.read()
    assert saved is not None
    assert [one.name for one in saved.records] == [one.name for one in FACTS]
    later.write([Wider(name="new", tags=["a"])])
    assert records(made(tmp_path)) == [Fact(name="new")]


def test_of_more_than_fits_the_first_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    snapshot = made(tmp_path, max_bytes=200)
    assert snapshot.write(FACTS)
    kept = records(snapshot)
    assert kept is not None
    assert 0 < len(kept) < len(FACTS)
    assert kept == FACTS[: len(kept)]
    assert "is full" in caplog.text


def test_a_file_that_is_too_large_is_not_taken_in(tmp_path: Path) -> None:
    made(tmp_path).write(FACTS)
    assert made(tmp_path, max_bytes=200).read() is None
