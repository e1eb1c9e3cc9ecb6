from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from farthing.errors import InvalidRequest
from farthing.http import parse
from farthing.http.openai_types import ChatBody, EmbeddingsBody
from farthing.types import Extras, Json

_encode = msgspec.json.encode
CHAT: Json = {"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}
EMBEDDINGS: Json = {"model": "fast", "input": "Hi"}
Place = tuple[str | int, ...]


# A wrong type in any documented field


def fields(kind: Any, where: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every documented field of a body, also those inside of lists and objects, and its type."""
    for field in msgspec.structs.fields(kind):
        place = (*where, field.encode_name)
        yield place, field.type
        for part in alternatives(field.type):
            origin, args = typing.get_origin(part), typing.get_args(part)
            if origin is list:
                yield (*place, 0), args[0]
                for inner in alternatives(args[0]):
                    if is_struct(inner):
                        yield from fields(inner, (*place, 0))
            elif is_struct(part):
                yield from fields(part, place)


def alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in {typing.Union, types.UnionType} else (kind,)


def is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def accepts(kind: Any, value: Any) -> bool:
    """Whether a JSON value has this type, as OpenAI's reference means it."""
    if kind is Any:
        return True
    for part in alternatives(kind):
        origin = typing.get_origin(part) or part
        if part is type(None):
            good = value is None
        elif origin in {dict, list}:
            good = isinstance(value, origin)
        elif is_struct(part):
            good = isinstance(value, dict)
        elif part is float:
            good = isinstance(value, int | float) and not isinstance(value, bool)
        elif part is int:
            good = isinstance(value, int) and not isinstance(value, bool)
        else:
            good = isinstance(value, part)
        if good:
            return True
    return False


def placed(body: Json, where: Place, value: Any) -> Json:
    """The body with a value at a place, and what must be around it."""
    whole: Json = msgspec.json.decode(_encode(body))
    here: Any = whole
    for part, following in pairwise(where):
        fresh: Any = [] if following == 0 else {}
        if isinstance(part, int):
            if not here:
                here.append(fresh)
            elif not isinstance(here[0], type(fresh)):
                here[0] = fresh
        elif not isinstance(here.get(part), type(fresh)):
            here[part] = fresh
        here = here[part]
    if isinstance(where[-1], int):
        here[:] = [value]
    else:
        here[where[-1]] = value
    return whole


REQUIRED = {"role": "user", "type": "x", "id": "x", "name": "x", "arguments": "{}"}


def completed(kind: Any, value: Any) -> Any:
    """Objects on the way to a field, with the fields that are required beside it."""
    if is_struct(kind) and isinstance(value, dict):
        whole = {field.encode_name: REQUIRED.get(field.encode_name) for field in msgspec.structs.fields(kind) if field.required}
        known = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        return {**whole, **{name: completed_any(known.get(name, Any), item) for name, item in value.items()}}
    if typing.get_origin(kind) is list and isinstance(value, list):
        return [completed_any(typing.get_args(kind)[0], item) for item in value]
    return value


def completed_any(kind: Any, value: Any) -> Any:
    for part in alternatives(kind):
        if is_struct(part) and isinstance(value, dict):
            return completed(part, value)
        if typing.get_origin(part) is list and isinstance(value, list):
            return completed(part, value)
    return value


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.just(1.5),
    st.just("text"),
    st.just([True]),
    st.just([1]),
    st.just({"k": 1}),
    st.just([]),
)
BODIES = {"chat": (ChatBody, CHAT, parse.chat), "embeddings": (EmbeddingsBody, EMBEDDINGS, parse.embeddings)}
CASES = [(name, place, kind) for name, (body, _, _) in BODIES.items() for place, kind in fields(body)]


def shown(place: Place) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def test_the_documented_fields_are_all_reached() -> None:
    places = {(name, shown(place)) for name, place, _ in CASES}
    assert len(places) > 70
    assert ("chat", "messages[0].tool_calls[0].function.arguments") in places
    assert ("chat", "response_format.json_schema.strict") in places
    assert ("chat", "stop[0]") in places


@pytest.mark.parametrize(("name", "place", "kind"), CASES, ids=lambda one: shown(one) if isinstance(one, tuple) else "")
def test_a_wrong_type_in_a_documented_field_is_refused_and_named(name: str, place: Place, kind: Any) -> None:
    body_type, body, read = BODIES[name]
    for value in (None, True, 3, 1.5, "text", [True], {"k": [1]}):
        given_ = completed(body_type, placed(body, place, value))
        if accepts(kind, value):
            continue
        with pytest.raises(InvalidRequest) as caught:
            read(_encode(given_))
        assert caught.value.status == 400
        assert caught.value.param is not None
        assert caught.value.param == shown(place) or caught.value.param.startswith(shown(place)), (value, caught.value.message)
        assert caught.value.message.startswith(caught.value.param)


@given(st.dictionaries(st.sampled_from(sorted(ChatBody.__struct_fields__)), VALUES), VALUES)
def test_any_mixture_of_types_is_a_body_or_a_400(more: Json, x: Any) -> None:
    data = _encode({**CHAT, **more, "x": x})
    try:
        _, body = parse.chat(data)
    except InvalidRequest as error:
        wire = error.wire()[1]
        _encode(wire)
    else:
        assert body == {**CHAT, **more, "x": x}


@given(
    st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5), lambda i: st.lists(i, max_size=3)),
    st.text(),
)
def test_what_we_do_not_know_passes_untouched(value: Any, name: str) -> None:
    assume(name not in ChatBody.__struct_fields__)
    body = {**CHAT, name: value, "messages": [{"role": "user", "content": [{"type": "new", "x": value}], "weird": value}]}
    assert parse.chat(_encode(body))[1] == body
    assert parse.embeddings(_encode({**EMBEDDINGS, f"x{name}": value}))[1] == {**EMBEDDINGS, f"x{name}": value}


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field} is missing$") as caught:
        parse.chat(_encode({key: value for key, value in CHAT.items() if key != field}))
    assert caught.value.param == field


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the request has no body"),
        (b" \n\t ", "the request has no body"),
        (b"{", "the body is not JSON"),
        (b'{"model":"fast","messages":[{"role":"us', "the body is not JSON"),
        (_encode(CHAT)[:-1], "the body is not JSON"),
        (_encode(CHAT) + b"}", "the body is not JSON"),
        (_encode(CHAT) + _encode(CHAT), "the body is not JSON"),
        (b"model=fast", "the body is not JSON"),
        (b"\xff\xfe{", "the body is not JSON"),
        (_encode(CHAT).replace(b"Hi", b"\xc3"), "the body is not JSON"),
        (_encode(CHAT).replace(b"Hi", b"\\ud800"), "the body is not JSON"),
        (_encode(CHAT).replace(b"Hi", b"\x01"), "the body is not JSON"),
        (b"\xef\xbb\xbf" + _encode(CHAT), "the body is not JSON"),
        (b"NaN", "the body is not JSON"),
        (b"[]", "the body: expected object"),
        (b"null", "the body: expected object"),
        (b'"text"', "the body: expected object"),
        (b'{"model":"fast","messages":[],"seed":1' + b"0" * 5000 + b"}", "seed: integer value out of range"),
        (b'{"model":"fast","messages":[]}', "messages is empty"),
    ],
    ids=lambda one: str(one[:30]),
)
def test_what_is_no_request_is_a_400(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse.chat(data)
    assert caught.value.message.startswith(message)
    assert caught.value.status == 400
    assert len(caught.value.message) < 1100


def nested(depth: int, open_: bytes = b"[", close: bytes = b"]") -> bytes:
    """A chat body whose deepest brackets are `depth` inside of each other."""
    inner = open_ * (depth - 1) + b"1" + close * (depth - 1)
    return _encode(CHAT)[:-1] + b',"x":' + inner + b"}"


@pytest.mark.parametrize(("open_", "close"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"\\"]":', b"}]")])
@pytest.mark.parametrize("depth", [200, 500, 950, 1000, 100_000])
def test_a_body_nested_too_deeply_is_a_400(depth: int, open_: bytes, close: bytes) -> None:
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        parse.chat(nested(depth, open_, close))


@pytest.mark.parametrize(("open_", "close"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_bound_on_depth_is_exact(open_: bytes, close: bytes) -> None:
    parse.chat(nested(128, open_, close))
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        parse.chat(nested(129, open_, close))


@settings(max_examples=40)
@given(
    st.recursive(
        st.none() | st.text(st.sampled_from('[]{}"\\/a'), max_size=12),
        lambda i: st.lists(i, max_size=8) | st.dictionaries(st.text(st.sampled_from('[]{}"\\'), max_size=6), i, max_size=4),
    )
)
def test_brackets_in_text_and_beside_each_other_are_not_depth(value: Any) -> None:
    body = {**CHAT, "x": [value] * 100}
    assert parse.chat(_encode(body))[1] == body


def test_a_long_conversation_is_not_deep() -> None:
    parts = [{"type": "text", "text": '[{"' * 10}] * 20
    body = {**CHAT, "messages": [{"role": "user", "content": parts}] * 300}
    assert parse.chat(_encode(body))[1] == body


def test_a_large_body_parses_and_a_large_wrong_one_is_refused_briefly() -> None:
    large = {**CHAT, "messages": [{"role": "user", "content": "x" * 20_000_000}]}
    assert parse.chat(_encode(large))[0].messages[0].content == "x" * 20_000_000
    with pytest.raises(InvalidRequest) as caught:
        parse.chat(_encode(large)[:-2])
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("wrong", ["", [], ["x"] * 2049])
def test_embeddings_need_between_one_and_2048_inputs(wrong: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse.embeddings(_encode({"model": "m", "input": wrong}))
    assert caught.value.param == "input"


def test_embeddings_take_tokens_and_known_encodings() -> None:
    assert parse.embeddings(_encode({"model": "m", "input": [[1, 2], [3]], "encoding_format": "base64"}))[0].input == [[1, 2], [3]]
    with pytest.raises(InvalidRequest) as caught:
        parse.embeddings(_encode({"model": "m", "input": "x", "encoding_format": "hex"}))
    assert caught.value.param == "encoding_format"


# Extras


def header(name: str, value: str) -> tuple[bytes, bytes]:
    return f"x-farthing-{name}".encode(), value.encode("latin-1")


def test_without_extras_the_defaults_hold() -> None:
    assert parse.extras(None, [(b"authorization", b"Bearer x")]) == Extras()
    assert parse.extras({}, []) == Extras()


def test_extras_come_from_the_body_or_from_headers_and_the_body_wins() -> None:
    headers = [header("cache", "off"), header("task-type", "summary"), header("namespace", "a b")]
    assert parse.extras(None, headers) == Extras(cache="off", task_type="summary", namespace="a b")
    assert parse.extras({"cache": "refresh", "user": "u"}, headers) == Extras(
        cache="refresh", task_type="summary", namespace="a b", user="u"
    )


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("dry-run", "false", Extras()),
        ("dry-run", "0", Extras()),
        ("memory", "off", Extras(memory="off")),
        ("memory", "False", Extras(memory=False)),
        ("knowledge", "0", Extras(knowledge=False)),
    ],
)
def test_switches_in_headers_are_read_as_such(name: str, value: str, expected: Extras) -> None:
    assert parse.extras(None, [header(name, value)]) == expected


@pytest.mark.parametrize(
    ("given_", "headers", "param", "message"),
    [
        ({"cahce": "off"}, [], "farthing.cahce", "did you mean 'cache'?"),
        (None, [header("cahce", "off")], "farthing.cahce", "did you mean 'cache'?"),
        ({"zzzzz": 1}, [], "farthing.zzzzz", "known: cache, namespace"),
        ({"cache": "maybe"}, [], "farthing.cache", "invalid enum value 'maybe'"),
        (None, [header("cache", "ON")], "farthing.cache", "invalid enum value 'ON'"),
        ({"cache": 1}, [], "farthing.cache", "expected str"),
        ({"namespace": None}, [], "farthing.namespace", "expected str"),
        ({"user": 5}, [], "farthing.user", "expected str"),
        ({"user": ""}, [], "farthing.user", "1 to 256 printable"),
        ({"user": "x" * 257}, [], "farthing.user", "1 to 256 printable"),
        ({"namespace": "a\0b"}, [], "farthing.namespace", "1 to 256 printable"),
        ({"task_type": "a\nb"}, [], "farthing.task_type", "1 to 256 printable"),
        (None, [header("namespace", "a\x85b")], "farthing.namespace", "1 to 256 printable"),
        ({"dry_run": True}, [], "farthing.dry_run", "not available in this version"),
        (None, [header("dry-run", "true")], "farthing.dry_run", "not available in this version"),
        ({"knowledge": "on"}, [], "farthing.knowledge", "not available in this version"),
        ({"prompt": {"name": "p"}}, [], "farthing.prompt", "expected str | null, got object"),
        ({"prompt": ""}, [], "farthing.prompt", "1 to 256 printable characters"),
    ],
)
def test_wrong_extras_are_refused_and_named(given_: Json | None, headers: list[tuple[bytes, bytes]], param: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse.extras(given_, headers)
    assert caught.value.param == param
    assert message in caught.value.message
    assert caught.value.message.startswith(param)


def test_gigantic_extras_are_refused_quickly_and_briefly() -> None:
    for wrong in ({"x" * 10_000_000: 1}, {"cache": "x" * 10_000_000}):
        with pytest.raises(InvalidRequest) as caught:
            parse.extras(wrong, [])
        assert len(caught.value.message) < 1200


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda i: st.lists(i, max_size=2) | st.dictionaries(st.text(), i, max_size=2),
)


@given(
    st.none() | st.dictionaries(st.sampled_from(Extras.__struct_fields__) | st.text(max_size=5), JUNK, max_size=3),
    st.lists(st.tuples(st.binary(max_size=8).map(b"x-farthing-".__add__), st.binary(max_size=8)), max_size=2),
)
def test_any_extras_are_read_or_a_400(given_: Json | None, headers: list[tuple[bytes, bytes]]) -> None:
    try:
        found = parse.extras(given_, headers)
    except InvalidRequest as error:
        _encode(error.wire()[1])
    else:
        assert isinstance(found, Extras)
