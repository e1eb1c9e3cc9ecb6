import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import NoPermissionError, ResponseError

from farthing.redis import erasures, index
from farthing.redis.layout import Layout, VectorType, digest, microseconds
from farthing.types import CacheScope, Question, new_id

_NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def question(**facts: Any) -> Question:
    usual: dict[str, Any] = {
        "id": new_id(),
        "tenant": "acme",
        "partition": b"p" * 32,
        "namespace": "default",
        "vector": b"\x01\x02\x03\x04",
        "payload": b"text",
        "answer_key": b"k" * 32,
        "request_id": new_id(),
        "cost_microusd": 5,
        "created_at": _NOON,
        "expires_at": _NOON + timedelta(hours=1),
    }
    return Question(**{**usual, **facts})


@given(
    vector=st.binary(min_size=8, max_size=8).filter(any),
    tenant=_TEXTS,
    user_id=st.none() | _TEXTS,
    tags=st.lists(_TEXTS, max_size=4).map(tuple),
    payload=st.binary(max_size=64),
    cost_microusd=st.integers(0, 2**53),
    created_at=st.datetimes(datetime(1970, 1, 1), datetime(2255, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # Hypothesis wants them so
    vector_type=st.sampled_from(["float32", "float16"]),
)
def test_a_question_comes_out_of_its_hash_as_it_went_in(vector: bytes, vector_type: VectorType, **facts: Any) -> None:
    layout = Layout("farthing", 8, vector_type)
    one = question(vector=vector, **facts)
    packed = layout.vector(vector)
    assert packed is not None
    assert len(packed) == 8 * (4 if vector_type == "float32" else 2)
    assert layout.question(layout.body(one), packed) == one


@given(body=st.binary(max_size=200), vector=st.binary(max_size=40))
def test_what_somebody_else_wrote_is_no_question(body: bytes, vector: bytes) -> None:
    layout = Layout("farthing", 8, "float32")
    assert layout.question(body, vector) is None
    assert layout.question(body, None) is None
    assert layout.question(layout.body(question()), vector[:31]) is None


@pytest.mark.parametrize(
    "component", [b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\xff", b"\x00\x00\x00\x43", b"\xff\xff\x7f\x7f"]
)
def test_a_vector_with_nan_infinite_or_large_numbers_is_no_question(component: bytes) -> None:
    layout = Layout("farthing", 4, "float32")
    assert layout.question(layout.body(question()), bytes(12) + component) is None


@pytest.mark.parametrize("vector", [b"", bytes(4), b"\x01", b"\x01" * 3, b"\x01" * 5])
def test_a_vector_of_the_wrong_length_or_without_direction_is_not_taken(vector: bytes) -> None:
    assert Layout("farthing", 4, "float32").vector(vector) is None


def test_what_changes_the_index_changes_its_name() -> None:
    layouts = [Layout("a", 4, "float32"), Layout("a", 4, "float16"), Layout("a", 8, "float32"), Layout("b", 4, "float32")]
    assert len({layout.base for layout in layouts}) == 4
    assert all(layout.entries.startswith(f"{layout.base}:") for layout in layouts)


@given(one=st.tuples(_TEXTS, st.binary(max_size=32)), other=st.tuples(_TEXTS, st.binary(max_size=32)))
def test_only_the_same_partition_of_the_same_tenant_has_the_same_tag(one: tuple[str, bytes], other: tuple[str, bytes]) -> None:
    layout = Layout("farthing", 4, "float32")
    assert (layout.place(digest(one[0]), one[1]) == layout.place(digest(other[0]), other[1])) == (one == other)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2255, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  # Hypothesis wants them so
def test_a_time_survives_the_score_of_a_sorted_set(at: datetime) -> None:
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(float(repr(float(microseconds(at)))))) == at


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        (CacheScope(), True),
        (CacheScope(namespace="docs"), True),
        (CacheScope(namespace="doc"), False),
        (CacheScope(tag="b"), True),
        (CacheScope(tag="a,b"), False),
        (CacheScope(user_id="ann"), True),
        (CacheScope(user_id=""), False),
        (CacheScope(answer_key=b"k" * 32), True),
        (CacheScope(answer_key=b"l" * 32), False),
        (CacheScope(namespace="docs", tag="a", user_id="ann", answer_key=b"k" * 32), True),
        (CacheScope(namespace="docs", tag="c"), False),
    ],
)
def test_an_erasure_covers_what_fits_all_that_its_scope_names(scope: CacheScope, covered: bool) -> None:  # noqa: FBT001  # a table's column
    one = question(namespace="docs", tags=("a", "b"), user_id="ann")
    erasure = erasures.of_scope(digest("acme"), scope)
    assert erasure.covers(one) is covered
    assert not erasures.of_scope(digest("rival"), scope).covers(one)


def test_an_erasure_of_a_user_does_not_cover_questions_of_nobody() -> None:
    assert not erasures.of_scope(digest("acme"), CacheScope(user_id="")).covers(question(user_id=None))


def test_only_what_was_created_until_an_erasure_is_in_it_and_it_survives_its_command() -> None:
    layout = Layout("farthing", 4, "float32")
    one = question(tenant="acme")
    noted = [erasures.Erasure(tenant=digest("acme"), id=one.id), erasures.Erasure(tenant=digest("acme"), id=UUID(int=1))]
    _, _, _, at, first, _, second = erasures.noting(layout, noted, _NOON)
    read = erasures.read([first, str(at).encode(), second, str(at).encode()])
    assert [erasure for erasure, _ in read] == noted
    assert erasures.is_erased(one, read)
    later = _NOON + timedelta(microseconds=1)
    assert not erasures.is_erased(question(id=one.id, created_at=later), read)
    assert not erasures.is_erased(question(), read)


@pytest.mark.parametrize("reply", [None, [], [0], b"OK", [1, b"key"], [3]])
def test_a_reply_without_answers_has_none(reply: Any) -> None:
    assert index.answers(reply) == []


def test_an_answer_without_a_number_is_read_as_not_a_number() -> None:
    (one, other) = index.answers([2, b"k", [b"__v_score", b"x", b"b", b"body"], b"l", [b"b", b"body"]])
    assert math.isnan(one.distance)
    assert math.isnan(other.distance)


@pytest.mark.parametrize(
    ("error", "missing", "exists", "refused"),
    [
        (ResponseError("farthing:q1:384:f32: no such index"), True, False, False),  # RediSearch 2.10
        (ResponseError("Unknown Index name"), True, False, True),  # RediSearch before that
        (ResponseError("Index with name 'farthing:q1:384:f32' not found"), True, False, False),  # valkey-search
        (ResponseError("Index already exists"), False, True, False),  # RediSearch
        (ResponseError("Index farthing:q1:384:f32 already exists."), False, True, False),  # valkey-search
        (ResponseError("unknown command 'FT.SEARCH'"), False, False, True),
        (NoPermissionError("this user has no permissions"), False, False, True),
        (OSError("not found, already exists, unknown"), False, False, False),
        (None, False, False, False),
    ],
)
def test_what_engines_say_is_understood(error: BaseException | None, missing: bool, exists: bool, refused: bool) -> None:  # noqa: FBT001  # columns
    assert (index.is_missing(error), index.exists(error), index.is_refused(error)) == (missing, exists, refused)
