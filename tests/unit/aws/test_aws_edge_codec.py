"""Answers as values of a KeyValueStore and back, and which of them are to go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from farthing.aws.edge_codec import MOST_VALUE, answer_key, answer_of, decode, encode, erasure_key, owner_prefix, version_key
from farthing.aws.edge_dead import superfluous
from farthing.types import EdgeAnswer

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
_names = st.text(min_size=1, max_size=60)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
_bodies = st.dictionaries(st.text(), _json, max_size=4) | st.fixed_dictionaries(
    {"content": st.text(max_size=2000), "format": st.sampled_from(["text", "json", "other"])}, optional={"usage": _json}
)


@st.composite
def answers(draw: st.DrawFn) -> EdgeAnswer:
    made = NOW + timedelta(microseconds=draw(st.integers(0, 10**12)))
    return EdgeAnswer(
        tenant=draw(_names),
        user=draw(_names),
        action=draw(_names),
        body=draw(_bodies),
        model=draw(_names),
        versions=draw(st.dictionaries(_names, st.integers(0, 2**53), max_size=3)),
        request_id=draw(st.uuids()),
        made_at=made,
        expires_at=made + timedelta(seconds=draw(st.integers(1, 10**6))),
        cost_microusd=draw(st.integers(0, 10**9)),
    )


@given(answer=answers())
def test_an_answer_comes_back_as_it_was_whether_it_fits_or_not(answer: EdgeAnswer) -> None:
    made = encode(answer)
    if made.value is None:
        return  # the names of its states have no room
    assert len(made.value.encode()) <= MOST_VALUE
    head, inside = decode(made.value)
    assert (head.p is not None) == made.points
    assert answer_of(answer.tenant, answer.user, answer.action, head, made.given if made.points else inside.encode()) == answer


@given(one=st.tuples(_names, _names, _names), other=st.tuples(_names, _names, _names))
def test_keys_are_apart_and_short_and_begin_with_their_owners(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (answer_key(*one) == answer_key(*other)) == (one == other)
    assert len(answer_key(*one)) < 100
    assert answer_key(*one).startswith(owner_prefix(one[0], one[1]))
    assert answer_key(*one).startswith(owner_prefix(one[0], None))
    assert answer_key(*one).startswith(owner_prefix(other[0], other[1])) == (one[:2] == other[:2])
    assert len({answer_key(*one), version_key(*one[:2]), erasure_key(*one[:2]), erasure_key(one[0], None)}) == 4


def test_names_of_states_that_have_no_room_are_told() -> None:
    assert encode(_answer(versions={f"state-{number:050}": 1 for number in range(20)})).value is None


def test_what_is_dead_goes_first_and_then_what_is_oldest() -> None:
    fresh = [_answer(user=f"u{age}", made_at=NOW - timedelta(minutes=age)) for age in range(4)]
    expired = _answer(user="expired", expires_at=NOW)
    stale = _answer(user="stale", versions={"s": 1})
    there = {answer_key(each.tenant, each.user, each.action): str(encode(each).value) for each in [*fresh, expired, stale]}
    there |= {answer_key("acme", "broken", "a"): "{", version_key("acme", "s"): "2", "k.1": "secret", erasure_key("acme", "u1"): "1"}
    keys = [answer_key("acme", user, "a") for user in ("expired", "stale", "broken", "u3", "u2", "u1", "u0")]
    assert {key for key, _ in superfluous(there, NOW)} == set(keys[:3])
    assert [key for key, _ in superfluous(there, NOW, max_rows=2)][3:] == keys[3:5]
    size = sum(len(key.encode()) + len(value.encode()) for key, value in there.items())
    gone = [key for key, _ in superfluous(there, NOW, max_bytes=size // 2)]
    assert gone[3:] == keys[3 : len(gone)]
    assert sum(len(key) + len(value) for key, value in there.items() if key not in gone) <= size // 2
    assert [key for key, _ in superfluous(there, NOW, max_bytes=0)][3:] == keys[3:], "versions, keys and erasures stay"


def _answer(**more: Any) -> EdgeAnswer:
    told: dict[str, Any] = {
        "tenant": "acme",
        "user": "ann",
        "action": "a",
        "body": {"content": "All is well.", "format": "text"},
        "model": "m",
        "versions": {"s": 2},
        "request_id": UUID(int=7),
        "made_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
        **more,
    }
    return EdgeAnswer(**told)
