"""What a caller's mode is, pins and entries taken together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import InvalidRequest
from farthing.modes import MOST_PINS, body_of, checked_mode, effective, next_end, pinned, set_mode, state_of
from farthing.types import Mode, ModeEntry, ModeState, Principal

NOW = datetime(2026, 4, 12, 17, 0, tzinfo=UTC)
LADDER = tuple(Mode(name=name, rank=rank) for rank, name in enumerate(("DEEP", "SHALLOW", "SUPER_SHALLOW")))
WHO = Principal(key_id=UUID(int=7), tenant="acme", tier="pro")


def mode_of(state: ModeState, now: datetime = NOW) -> str:
    return effective(state, WHO, LADDER, now).name


def entered(**modes: str) -> ModeState:
    state = ModeState()
    for scope, mode in modes.items():
        state = set_mode(state, scope.replace("__", ":"), mode, by="policy", now=NOW)
    return state


def test_without_entries_the_best_mode_holds() -> None:
    assert mode_of(ModeState()) == "DEEP"


def test_the_worst_of_the_entries_holds() -> None:
    assert mode_of(entered(total="SHALLOW", tenant__acme="SUPER_SHALLOW", tier__pro="SHALLOW")) == "SUPER_SHALLOW"


def test_entries_of_others_do_not_count() -> None:
    assert mode_of(entered(tenant__other="SUPER_SHALLOW", tier__free="SHALLOW")) == "DEEP"


@pytest.mark.parametrize("scope", ["total", "tier:pro", "tenant:acme", f"key:{UUID(int=7)}"])
def test_a_pin_holds_whatever_the_policy_says(scope: str) -> None:
    state = pinned(entered(total="SUPER_SHALLOW"), scope, "DEEP", by="operator:ann", now=NOW)
    assert mode_of(state) == "DEEP"
    assert mode_of(pinned(state, scope, None, by="operator:ann", now=NOW)) == "SUPER_SHALLOW"


def test_the_narrowest_pin_holds() -> None:
    state = pinned(ModeState(), "total", "SUPER_SHALLOW", by="a", now=NOW)
    state = pinned(state, "tenant:acme", "SHALLOW", by="a", now=NOW)
    assert mode_of(state) == "SHALLOW"


def test_a_pin_ends_by_itself() -> None:
    state = pinned(entered(total="SHALLOW"), "total", "DEEP", by="a", now=NOW, until=NOW + timedelta(minutes=5))
    assert next_end(state, NOW) == NOW + timedelta(minutes=5)
    assert mode_of(state, NOW + timedelta(seconds=299)) == "DEEP"
    assert mode_of(state, NOW + timedelta(seconds=300)) == "SHALLOW"


def test_modes_that_the_ladder_has_not_do_not_count() -> None:
    state = pinned(entered(total="SHALLOW", tier__pro="GONE"), "tenant:acme", "LOST", by="a", now=NOW)
    assert mode_of(state) == "SHALLOW"


def test_a_mode_that_holds_already_keeps_its_beginning() -> None:
    state = set_mode(entered(total="SHALLOW"), "total", "SHALLOW", by="other", now=NOW + timedelta(hours=1))
    assert state.entries["total"].since == NOW
    assert set_mode(state, "total", "DEEP", by="policy", now=NOW, best="DEEP").entries == {}


@pytest.mark.parametrize("scope", ["", "everybody", "tier:", "tenant:a\nb", "key:" + "x" * 129, "tier:a\u2028"])
def test_what_is_no_scope_is_told(scope: str) -> None:
    with pytest.raises(InvalidRequest, match="tenant:NAME"):
        pinned(ModeState(), scope, "DEEP", by="a", now=NOW)


@pytest.mark.parametrize("mode", ["", "x" * 65, "DEE P", "a\0"])
def test_what_is_no_name_of_a_mode_is_told(mode: str) -> None:
    with pytest.raises(InvalidRequest):
        pinned(ModeState(), "total", mode, by="a", now=NOW)


def test_an_unknown_mode_is_told_with_those_there_are() -> None:
    assert checked_mode("SHALLOW", LADDER).rank == 1
    with pytest.raises(InvalidRequest, match="DEEP, SHALLOW, SUPER_SHALLOW"):
        checked_mode("SHALOW", LADDER)


def test_a_pin_that_has_ended_already_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="ended"):
        pinned(ModeState(), "total", "DEEP", by="a", now=NOW, until=NOW)


def test_pins_are_bounded_and_those_that_ended_make_room() -> None:
    state = ModeState()
    for at in range(MOST_PINS):
        state = pinned(state, f"tenant:{at}", "SHALLOW", by="a", now=NOW, until=NOW + timedelta(hours=1))
    with pytest.raises(InvalidRequest, match="pins"):
        pinned(state, "tenant:more", "SHALLOW", by="a", now=NOW)
    assert len(pinned(state, "tenant:more", "SHALLOW", by="a", now=NOW + timedelta(hours=2)).pins) == 1
    assert len(msgspec.json.encode(body_of(state))) < 64 * 1024


def test_the_short_form_means_everybody() -> None:
    state = state_of({"RAG_MODE": "SHALLOW"}, NOW)
    assert mode_of(state) == "SHALLOW"
    assert state.entries["total"].since == NOW


@pytest.mark.parametrize(
    "body",
    [
        {"RAG_MODE": 3},
        {"RAG_MODE": "no mode"},
        {"entries": []},
        {"entries": {"total": {"mode": "DEEP"}}},
        {"entries": {"nobody": {"mode": "DEEP", "since": "2026-04-12T00:00:00Z"}}},
        {"entries": {f"key:{at}": {"mode": "DEEP", "since": "2026-04-12T00:00:00Z"} for at in range(201)}},
    ],
)
def test_a_document_that_is_no_state_is_told(body: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        state_of(body)


def test_times_without_a_zone_are_utc() -> None:
    state = state_of({"pins": {"total": {"mode": "SHALLOW", "since": "2026-04-12T16:00:00", "until": "2026-04-12T17:00:01"}}})
    assert mode_of(state) == "SHALLOW"
    assert mode_of(state, NOW + timedelta(seconds=2)) == "DEEP"


_NAMES = st.sampled_from(["total", "tier:pro", "tier:free", "tenant:acme", "tenant:ünï", f"key:{UUID(int=7)}"])
_TIMES = st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_ENTRIES = st.dictionaries(
    _NAMES,
    st.builds(
        ModeEntry,
        mode=st.sampled_from(["DEEP", "SHALLOW", "SUPER_SHALLOW", "GONE"]),
        since=_TIMES,
        until=st.none() | _TIMES,
        reason=st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=40),
    ),
)


@given(_ENTRIES, _ENTRIES)
def test_a_state_reads_back_as_it_was_written(entries: dict[str, ModeEntry], pins: dict[str, ModeEntry]) -> None:
    state = ModeState(entries=entries, pins=pins)
    assert state_of(msgspec.json.decode(msgspec.json.encode(body_of(state)))) == state
