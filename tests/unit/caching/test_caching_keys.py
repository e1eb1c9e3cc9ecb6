from __future__ import annotations

import copy
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from farthing.caching.keys import OUT, exact_key, temperature
from farthing.types import Extras, Json, Lifeline, Operation, Principal, Request

WHO = Principal(key_id=UUID(int=1), tenant="acme")
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.text(max_size=8), VALUE, max_size=5).map(
    lambda more: {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], **more}
)
FACTS = ("tenant", "namespace", "operation", "model", "fingerprint")


def request(body: Json, **facts: str) -> Request:
    return Request(
        id=UUID(int=1),
        principal=msgspec.structs.replace(WHO, tenant=facts.get("tenant", "acme")),
        operation=Operation(facts.get("operation", "chat")),
        body=body,
        model=facts.get("model", "fast"),
        fingerprint=facts.get("fingerprint", "f"),
        extras=Extras(namespace=facts.get("namespace", "default")),
        started_ns=0,
        lifeline=Lifeline(None),
    )


def key(body: Json, **facts: str) -> bytes:
    return exact_key(request(body, **facts))


def shuffled(value: Any, order: Any) -> Any:
    """The same value with the keys of its objects in another order."""
    if isinstance(value, dict):
        items = [(name, shuffled(item, order)) for name, item in value.items()]
        order.shuffle(items)
        return dict(items)
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@settings(max_examples=50)
@given(BODIES, st.randoms(use_true_random=False))
def test_order_of_keys_and_white_space_do_not_matter(body: Json, order: Any) -> None:
    other = msgspec.json.format(msgspec.json.encode(shuffled(body, order)), indent=3)
    assert key(msgspec.json.decode(other)) == key(body)


@settings(max_examples=50)
@given(BODIES)
def test_a_key_is_32_bytes_and_leaves_the_request_as_it_is(body: Json) -> None:
    one = request(copy.deepcopy(body))
    assert len(exact_key(one)) == 32
    assert one.body == body


@settings(max_examples=50)
@given(BODIES, st.data())
def test_any_change_of_a_field_that_is_in_changes_the_key(body: Json, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(set(body) - OUT)) | st.text(max_size=8))
    assume(name not in OUT)
    value = data.draw(VALUE)
    assume(msgspec.json.encode(value) != msgspec.json.encode(body.get(name)))
    assert key({**body, name: value}) != key(body)


@settings(max_examples=50)
@given(BODIES, st.sampled_from(sorted(OUT)), VALUE)
def test_a_field_that_is_out_does_not_change_the_key(body: Json, name: str, value: Any) -> None:
    assert key({**body, name: value}) == key({field: item for field, item in body.items() if field != name})


@settings(max_examples=50)
@given(BODIES, st.text(max_size=8))
def test_a_null_field_is_an_absent_one(body: Json, name: str) -> None:
    assume(name not in body)
    assert key({**body, name: None}) == key(body)


@pytest.mark.parametrize("fact", FACTS)
def test_every_fact_about_the_request_is_in(fact: str) -> None:
    body: Json = {"messages": []}
    assert key(body, **{fact: "embeddings" if fact == "operation" else "other"}) != key(body)


@given(
    st.lists(st.text(max_size=6), min_size=4, max_size=4),
    st.lists(st.text(max_size=6), min_size=4, max_size=4),
)
def test_facts_do_not_run_together(one: list[str], other: list[str]) -> None:
    names = ("tenant", "namespace", "model", "fingerprint")
    assume(one != other)
    assert key({}, **dict(zip(names, one, strict=True))) != key({}, **dict(zip(names, other, strict=True)))


def test_text_that_looks_like_another_part_stays_text() -> None:
    assert key({"a": "b"}, namespace='x","y') != key({"a": "b"}, namespace="x")
    assert key({"a": '1,"b":2'}) != key({"a": "1", "b": "2"})
    assert key({"a": 1}) != key({"a": "1"})
    assert key({"a": True}) != key({"a": 1})


def test_an_escape_is_the_character_it_stands_for() -> None:
    one, other = msgspec.json.decode(b'{"a":"gr\\u00fcn \\ud83c\\udf0d"}'), msgspec.json.decode('{"a":"grün 🌍"}'.encode())
    assert key(one) == key(other)


def test_what_is_out_is_what_the_documentation_says() -> None:
    documented = {"stream", "stream_options", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
    assert documented | {"metadata", "store", "service_tier", "model"} == OUT


@pytest.mark.parametrize(
    ("body", "operation", "expected"),
    [
        ({}, "chat", 1.0),
        ({"temperature": 0}, "chat", 0.0),
        ({"temperature": 0.7}, "chat", 0.7),
        ({"temperature": None}, "chat", 1.0),
        ({}, "embeddings", 0.0),
        ({"temperature": 2}, "embeddings", 0.0),
    ],
)
def test_the_temperature_is_openais_default_unless_named(body: Json, operation: str, expected: float) -> None:
    assert temperature(request(body, operation=operation)) == expected
