"""The rules for documents that all workers agree on, the flag beside the modes, and how a change is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.config import MOST_BYTES, decoded, encoded, line, may_follow
from farthing.errors import Conflict, InvalidRequest
from farthing.http.mode_lines import scopes_json, somebody, state_in, version_json
from farthing.modes import body_after, body_of, effective, pinned, set_mode, state_of
from farthing.settings import ConfigSettings
from farthing.types import Document, Mode, ModeState, Principal, new_id

_NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
_LADDER = [Mode(name=name, rank=rank) for rank, name in enumerate(("DEEP", "SHALLOW", "SUPER_SHALLOW"))]
_MODES = st.sampled_from([mode.name for mode in _LADDER])
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)


def document(body: dict[str, Any], version: int = 1, **facts: Any) -> Document:
    return Document(**{"name": "modes", "version": version, "body": body, "at": _NOON, "by": "operator:ann", **facts})


@given(st.dictionaries(_TEXT, _JSON, max_size=6))
def test_a_body_is_read_back_as_it_was_or_refused_for_a_nul(body: dict[str, Any]) -> None:
    if "\\u0000" in json.dumps(body).replace("\\\\", ""):
        with pytest.raises(InvalidRequest, match="NUL"):
            encoded("modes", body)
    else:
        assert decoded("modes", encoded("modes", body)) == body


@given(st.text(max_size=MOST_BYTES))
def test_who_and_why_are_always_one_short_line_that_utf8_can_hold(text: str) -> None:
    plain = line(text)
    assert len(plain) <= 500
    assert plain.isprintable()
    plain.encode()


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"7", b"{", b"\xff", b"[" * 100_000, b'{"a": NaN}'])
def test_what_somebody_else_wrote_is_an_object_or_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="'modes'"):
        decoded("modes", data)


@pytest.mark.parametrize(("latest", "expect", "version"), [(None, None, 1), (None, 0, 1), (4, None, 5), (4, 4, 5)])
def test_versions_count_up(latest: int | None, expect: int | None, version: int) -> None:
    assert may_follow("modes", None if latest is None else document({}, latest), expect) == version


@pytest.mark.parametrize(("latest", "expect"), [(None, 1), (4, 0), (4, 3), (4, 5), (4, -4)])
def test_another_version_than_expected_conflicts(latest: int | None, expect: int) -> None:
    with pytest.raises(Conflict):
        may_follow("modes", None if latest is None else document({}, latest), expect)


def test_the_flag_counts_for_everybody_beside_pins_and_narrower_entries() -> None:
    state = set_mode(ModeState(), "tenant:acme", "SUPER_SHALLOW", by="policy", now=_NOON)
    state = pinned(state, "tier:pro", "DEEP", by="operator:ann", now=_NOON)
    read = state_of({"RAG_MODE": "SHALLOW", "alarms": {"x": 1}, **body_of(state)}, _NOON)
    who = [Principal(key_id=new_id(), tenant=tenant, tier=tier) for tenant, tier in (("other", "free"), ("acme", "free"), ("acme", "pro"))]
    assert [effective(read, one, _LADDER, _NOON).name for one in who] == ["SHALLOW", "SUPER_SHALLOW", "DEEP"]


@given(_MODES, _MODES, st.booleans(), st.booleans())
def test_what_is_written_after_another_body_is_read_as_it_was_meant(before: str, mode: str, flag: bool, pin: bool) -> None:  # noqa: FBT001 - drawn
    body: dict[str, Any] = {"RAG_MODE": before, "alarms": {"a": {"state": "OK"}}} if flag else {}
    state = set_mode(state_of(body, _NOON), "total", mode, by="operator:ann", now=_NOON, best="DEEP")
    if pin:
        state = pinned(state, "tenant:acme", "SHALLOW", by="operator:ann", now=_NOON)
    after = body_after(body, state, "DEEP")
    assert after.get("RAG_MODE") == (mode if flag else None)
    assert after.get("alarms") == body.get("alarms"), "what others keep there stays"
    read = state_of(after, _NOON)
    for tenant in ("acme", "other"):
        caller = Principal(key_id=new_id(), tenant=tenant)
        assert effective(read, caller, _LADDER, _NOON) == effective(state, caller, _LADDER, _NOON)


def test_a_flag_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="RAG_MODE"):
        state_of({"RAG_MODE": 1}, _NOON)


def test_what_a_version_changed_is_told() -> None:
    first = set_mode(ModeState(), "total", "SHALLOW", by="policy", now=_NOON)
    second = pinned(first, "tenant:acme", "DEEP", by="operator:ann", now=_NOON, until=_NOON + timedelta(hours=2))
    unpinned = pinned(second, "tenant:acme", None, by="operator:ann", now=_NOON)
    third = set_mode(unpinned, "total", "DEEP", by="policy", now=_NOON, best="DEEP")
    versions = [document(body_of(state)) for state in (first, second, third)]
    told = [version_json(one, before)["changes"] for one, before in zip(versions, [None, *versions], strict=False)]
    assert told == [
        ["total: the best mode → SHALLOW"],
        ["tenant:acme: pinned to DEEP until 2026-11-28T14:00:00Z"],
        ["total: SHALLOW → the best mode", "tenant:acme: no pin to DEEP any more"],
    ]


def test_a_version_that_nobody_understands_says_what_is_wrong_with_it() -> None:
    broken = document({"entries": 7})
    assert "no state of modes" in version_json(broken, None)["changes"][0]
    assert state_in(broken)[0] == ModeState()


def test_what_holds_in_a_scope_is_what_holds_for_its_callers() -> None:
    state = pinned(set_mode(ModeState(), "tier:free", "SHALLOW", by="policy", now=_NOON), "total", "SUPER_SHALLOW", by="ann", now=_NOON)
    rows = scopes_json(state, _LADDER, _NOON, {"tenant:acme": somebody("tenant:acme")})
    assert [(row["scope"], row["mode"]) for row in rows] == [
        ("total", "SUPER_SHALLOW"),
        ("tenant:acme", "SUPER_SHALLOW"),
        ("tier:free", "SUPER_SHALLOW"),
    ]
    assert somebody("key:nobody").key_id.int == 0


def test_a_path_without_files_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"config\.path needs config\.store: file"):
        ConfigSettings.model_validate({"path": "x"})
