"""What new facts make of what is known: in whatever order they come, however often, and never more than fits."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import InvalidRequest
from farthing.facts import MOST_SOURCES, Learnt, Most, checked_value, holds, is_open, learn, packed, unpacked
from farthing.types import Fact, NewFact, uuid7_at

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_MANY = Most(facts=100)


def said(at: int, key: str = "city", value: Any = "Oslo", **facts: Any) -> NewFact:
    """A fact that was valid from so many minutes past ten."""
    usual = {"key": key, "value": value, "by": "rule:r", "valid_from": NOW - timedelta(hours=2) + timedelta(minutes=at)}
    return NewFact(**{**usual, "sources": (f"app#{at}",), **facts})


class Mind:
    """What is known of a user, kept as an adapter keeps it."""

    def __init__(self, most: Most = _MANY) -> None:
        self.rows: dict[UUID, Fact] = {}
        self.now = NOW
        self._most = most
        self._ids = (uuid7_at(n, bytes(10)) for n in itertools.count())

    def learn(self, *new: NewFact) -> Learnt:
        learnt = learn("acme", "ann", list(self.rows.values()), new, now=self.now, most=self._most, ids=lambda: next(self._ids))
        self.rows |= {one.id: one for one in learnt.changed}
        assert set(learnt.facts) == {one for one in self.rows.values() if is_open(one)} if _hashable(learnt.facts) else True
        return learnt

    @property
    def holds(self) -> list[tuple[str, Any]]:
        return [(one.key, one.value) for one in self.rows.values() if holds(one, self.now)]


def _hashable(facts: tuple[Fact, ...]) -> bool:
    return all(isinstance(one.value, str | int | float | None) for one in facts)


cities = st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["Oslo", "Rome", "Bonn"])), max_size=12, unique_by=lambda one: one[0])


@given(cities, st.randoms(use_true_random=False), st.integers(1, 4))
def test_what_holds_does_not_hang_on_the_order_or_the_batches_or_the_repeats(story: list[tuple[int, str]], dice: Any, at_once: int) -> None:
    facts = [said(at, value=city) for at, city in story]
    facts += dice.sample(facts, len(facts) // 2)
    dice.shuffle(facts)
    mind = Mind()
    for batch in itertools.batched(facts, at_once) if hasattr(itertools, "batched") else [[one] for one in facts]:
        mind.learn(*batch)
    assert mind.holds == ([("city", max(story)[1])] if story else [])


@given(cities, st.randoms(use_true_random=False))
def test_history_never_loses_a_value_and_no_two_hold_at_once(story: list[tuple[int, str]], dice: Any) -> None:
    facts = [said(at, value=city) for at, city in story]
    dice.shuffle(facts)
    mind = Mind()
    for one in facts:
        mind.learn(one)
        assert len([row for row in mind.rows.values() if is_open(row)]) <= 1
        assert all(row.valid_to is None or row.valid_to >= row.valid_from for row in mind.rows.values())
    assert {row.value for row in mind.rows.values()} == {city for _, city in story}
    assert {source for row in mind.rows.values() for source in row.sources} == {f"app#{at}" for at, _ in story}


@given(cities)
def test_what_is_told_twice_changes_nothing(story: list[tuple[int, str]]) -> None:
    facts = [said(at, value=city, multi=at % 3 == 0, key="city" if at % 2 else "town") for at, city in story]
    mind = Mind()
    mind.learn(*facts)
    before = dict(mind.rows)
    assert mind.learn(*facts).changed == ()
    assert mind.rows == before


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=30), st.integers(1, 8))
def test_the_bound_holds_and_people_are_believed_longest(facts: list[tuple[float, bool]], most: int) -> None:
    mind = Mind(Most(facts=most))
    for number, (sure, person) in enumerate(facts):
        mind.learn(said(number, f"k{number}", number, confidence=sure, by="person:p" if person else "model:m"))
    held = [row for row in mind.rows.values() if is_open(row)]
    assert len(held) == min(most, len(facts))
    assert sum(row.by == "person:p" for row in held) == min(most, sum(person for _, person in facts))
    assert {row.ended_by for row in mind.rows.values() if not is_open(row)} <= {"max_facts"}


def test_a_profile_that_is_too_large_loses_what_is_worth_least() -> None:
    mind = Mind(Most(facts=100, bytes=5000))
    learnt = mind.learn(*(said(n, f"k{n}", "x" * 500, confidence=n / 20) for n in range(20)))
    assert len(packed(learnt.facts)) <= 5000
    assert [one.key for one in learnt.facts] == [f"k{n}" for n in range(20 - len(learnt.facts), 20)]
    assert len(learnt.facts) > 6


def test_of_many_sources_the_latest_are_kept() -> None:
    mind = Mind()
    for n in range(100):
        mind.learn(said(n))
    (one,) = mind.rows.values()
    assert one.sources == tuple(f"app#{n}" for n in range(100 - MOST_SOURCES, 100))


def test_what_has_expired_is_ended_when_somebody_learns() -> None:
    mind = Mind()
    mind.learn(said(1, "mood", "cross", expires_at=NOW + timedelta(hours=1)), said(1))
    mind.now += timedelta(hours=1)
    assert mind.holds == [("city", "Oslo")]
    mind.learn(said(2, "age", 7))
    (ended,) = [row for row in mind.rows.values() if row.key == "mood"]
    assert (ended.valid_to, ended.ended_by) == (mind.now, "expiry")


def test_a_key_that_gathered_values_can_be_given_a_single_one() -> None:
    mind = Mind()
    mind.learn(said(1, "likes", "Python", multi=True), said(2, "likes", "SQL", multi=True))
    mind.learn(said(3, "likes", "Rust"))
    assert mind.holds == [("likes", "Rust")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**52), 2**52) | st.floats(allow_nan=False, width=32) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_a_value_is_taken_in_one_spelling_or_refused(value: Any) -> None:
    try:
        tidy = checked_value(value)
    except InvalidRequest:
        return
    assert tidy == value
    assert msgspec.json.decode(msgspec.json.encode(tidy)) == tidy
    assert checked_value(tidy) == tidy


@pytest.mark.parametrize(("one", "other", "same"), [(1, 1.0, True), ([1.0], [1], True), (1, True, False), (0, -0.0, True), ("1", 1, False)])
def test_the_same_value_in_another_spelling_is_the_same(one: Any, other: Any, same: bool) -> None:  # noqa: FBT001 - a table
    mind = Mind()
    mind.learn(said(1, "n", checked_value(one)))
    mind.learn(said(2, "n", checked_value(other)))
    assert (len(mind.rows) == 1) is same


def test_facts_are_packed_and_unpacked_as_they_are() -> None:
    mind = Mind()
    facts = mind.learn(said(1, value={"a": [None, 1.5]}, expires_at=NOW + timedelta(days=1)), said(2, "likes", "x", multi=True)).facts
    assert unpacked("acme", "ann", packed(facts)) == facts
