from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.foresight.states import dependencies, matches, touching
from farthing.settings import StateSettings
from farthing.types import Event

NOW = datetime(2026, 3, 1, tzinfo=UTC)
STATES = {
    "deployments": StateSettings(types=["deployment.*"]),
    "inbox": StateSettings(types=["mail.received", "mail.read"], per="user"),
    "project": StateSettings(types=["project.*", "deployment.failed"], per="data.project.id"),
}
touches = touching(STATES)


def event(kind: str, user: str | None = None, data: Any = None) -> Event:
    return Event(id="1", source="app", type=kind, tenant="acme", user=user, time=NOW, data=data, received_at=NOW)


@pytest.mark.parametrize(
    ("patterns", "kind", "expected"),
    [
        (["user.login"], "user.login", True),
        (["user.login"], "user.login.again", False),
        (["user.*"], "user.login", True),
        (["user.*"], "user", False),
        (["user.*"], "username.x", False),
        (["*"], "anything", True),
        ([], "anything", False),
    ],
)
def test_types_of_events_match_exactly_or_by_their_beginning(patterns: list[str], kind: str, expected: bool) -> None:  # noqa: FBT001
    assert matches(patterns, kind) is expected


def test_an_event_touches_the_states_that_its_type_changes() -> None:
    assert touches(event("deployment.done")) == ("deployments",)
    assert touches(event("user.login", "ann")) == ()
    assert touches(event("mail.read", "ann")) == ("inbox:ann", "inbox:*")
    assert touches(event("deployment.failed", data={"project": {"id": 7}})) == ("deployments", "project:7", "project:*")


def test_an_event_that_does_not_say_whose_state_changes_changes_everybodys() -> None:
    touched = touches(event("mail.read"))
    for user in ("ann", "bob"):
        assert set(touched) & set(dependencies(["inbox"], STATES, user=user, data=None))


values = st.one_of(st.none(), st.text(max_size=80), st.integers(), st.booleans(), st.lists(st.integers(), max_size=2))


@given(values, values)
def test_an_answer_goes_whenever_its_own_state_may_have_changed(mine: object, theirs: object) -> None:
    """It hangs on something that the event touches if the event is of the same one, or if either does not say."""
    hangs_on = set(dependencies(["project"], STATES, user="ann", data={"project": {"id": mine}}))
    touched = set(touches(event("project.changed", data={"project": {"id": theirs}})))
    says = [isinstance(one, str | int) and not isinstance(one, bool) and one != "" for one in (mine, theirs)]
    may_be_its_own = not all(says) or str(mine) == str(theirs)
    assert bool(hangs_on & touched) is may_be_its_own


@given(st.text(min_size=1, max_size=300), st.text(min_size=1, max_size=300))
def test_names_of_states_are_short_and_differ_with_the_user(ann: str, bob: str) -> None:
    one, other = (dependencies(["inbox"], STATES, user=user, data=None) for user in (ann, bob))
    assert all(len(name) <= 128 and name.isprintable() for name in one)
    assert (one == other) is (ann == bob)
