from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncGenerator, Callable, Iterable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import UpstreamError
from farthing.pipeline.stream import Fold, Replayed, Tee, has_content, replay
from farthing.providers import wire
from farthing.types import Json

TEXT = st.text(max_size=30) | st.lists(st.sampled_from(["Hello", " ", "\n", "wörld", "🌍", "\t x"]), max_size=8).map("".join)
PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8)
VALUE = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)
JUNK = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=10
)
X_FIELDS = st.dictionaries(st.text(max_size=5).map("x_{}".format), VALUE, max_size=2)


@st.composite
def tool_calls(draw: st.DrawFn) -> list[Json]:
    calls = []
    for at in range(draw(st.integers(1, 3))):
        if draw(st.booleans()):
            function = {"name": draw(TEXT), "arguments": draw(TEXT), **draw(X_FIELDS)}
            calls.append({"id": f"call_{at}", "type": "function", "function": function, **draw(X_FIELDS)})
        else:
            calls.append({"id": f"call_{at}", "type": "custom", "custom": {"name": draw(TEXT), "input": draw(TEXT)}})
    return calls


@st.composite
def logprobs(draw: st.DrawFn, content: str | None) -> Json | None:
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return None
    refusal: list[Json] | None = draw(st.none() | st.just([{"token": "No", "logprob": -1.0, "bytes": None, "top_logprobs": []}]))
    if kind == 1 and content:
        cuts = sorted({0, len(content), *draw(st.lists(st.integers(0, len(content)), max_size=4))})
        tokens = [content[start:end] for start, end in pairwise(cuts)]
    else:  # tokens that are not the text: half characters, another tokenizer
        tokens = draw(st.lists(st.text(max_size=3), max_size=3))
    listed = [{"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []} for token in tokens]
    return {"content": listed if kind != 3 else None, "refusal": refusal, **draw(X_FIELDS)}


@st.composite
def completions(draw: st.DrawFn) -> Json:
    """Whole answers with all that providers put into them."""
    choices = []
    for index in range(draw(st.integers(1, 3))):
        content = draw(st.none() | TEXT)
        message: Json = {"role": "assistant", "content": content, "refusal": draw(st.none() | TEXT), **draw(X_FIELDS)}
        if draw(st.booleans()):
            message["tool_calls"] = draw(tool_calls())
        if draw(st.booleans()):
            message["reasoning_content"] = draw(st.none() | TEXT)
        if draw(st.booleans()):
            message["function_call"] = draw(st.none() | st.just({"name": "f", "arguments": "{}"}))
        choices.append(
            {
                "index": index,
                "message": message,
                "logprobs": draw(logprobs(content)),
                "finish_reason": draw(st.sampled_from([None, "stop", "length", "tool_calls", "content_filter"])),
                **draw(X_FIELDS),
            }
        )
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        **draw(X_FIELDS),
        "choices": choices,
        "usage": draw(st.none() | st.just({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})),
    }


def folded(chunks: Iterable[Json], usage: Json | None = None) -> Json:
    fold = Fold()
    for chunk in chunks:
        fold.add(chunk)
    return fold.body(usage)


def chunk(*deltas: Json, index: int = 0, finish: str | None = None, **more: Any) -> Json:
    """A chunk with one choice for each delta."""
    choices = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, **more} for delta in deltas]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices}


def message(*deltas: Json) -> Json:
    """What these deltas fold to."""
    body = folded(chunk(delta) for delta in deltas)
    found = body["choices"][0]["message"]
    assert isinstance(found, dict)
    return found


@settings(max_examples=25)
@given(completions())
def test_a_replayed_answer_folds_to_itself(whole: Json) -> None:
    before = copy.deepcopy(whole)
    chunks = list(replay(whole))
    assert folded(chunks, whole["usage"]) == whole
    assert whole == before, "replay must not change what the cache holds"


@settings(max_examples=25)
@given(completions())
def test_a_replay_has_the_shape_of_a_live_stream(whole: Json) -> None:
    ended: set[int] = set()
    begun: set[int] = set()
    for one in replay(whole):
        assert one["object"] == "chat.completion.chunk"
        assert (one["id"], one["created"], one["model"]) == ("chatcmpl-1", 1, "m")
        assert "usage" not in one
        (choice,) = one["choices"]
        assert {"index", "delta", "logprobs", "finish_reason"} <= choice.keys()
        assert "message" not in choice
        index = choice["index"]
        assert index not in ended, "nothing follows the reason of the end"
        assert ("role" in choice["delta"]) == (index not in begun), "the role comes first and once"
        begun.add(index)
        if choice["finish_reason"]:
            assert choice["delta"] == {}
            ended.add(index)
        for call in choice["delta"].get("tool_calls", ()):
            assert isinstance(call["index"], int)
    assert begun == {choice["index"] for choice in whole["choices"]}


@settings(max_examples=25)
@given(completions(), st.data())
def test_however_text_is_cut_it_folds_the_same(whole: Json, data: st.DataObject) -> None:
    chunks = []
    for one in replay(whole):
        delta = one["choices"][0]["delta"]
        texts = [key for key, value in delta.items() if isinstance(value, str) and key in {"content", "refusal"} and len(value) > 1]
        if not texts:
            chunks.append(one)
            continue
        cut = data.draw(st.integers(1, len(delta[texts[0]]) - 1))
        for at, piece in enumerate((delta[texts[0]][:cut], delta[texts[0]][cut:])):
            rest = {} if at else delta
            probabilities = None if at else one["choices"][0]["logprobs"]
            chunks.append({**one, "choices": [{**one["choices"][0], "delta": {**rest, texts[0]: piece}, "logprobs": probabilities}]})
    assert folded(chunks, whole["usage"]) == whole


@settings(max_examples=25)
@given(completions())
def test_choices_may_come_interleaved_and_in_one_chunk(whole: Json) -> None:
    by_index: dict[int, list[Json]] = {}
    for one in replay(whole):
        by_index.setdefault(one["choices"][0]["index"], []).append(one)
    rows = []
    while any(by_index.values()):
        row = [queue.pop(0) for queue in reversed(by_index.values()) if queue]
        rows.append({**row[0], "choices": [one["choices"][0] for one in row]})
    assert folded(rows, whole["usage"]) == whole


KEYS = st.sampled_from(["role", "content", "refusal", "tool_calls", "reasoning_content", "function_call", "x"])
CALL_KEYS = st.sampled_from(["index", "id", "function", "type", "custom"])
CALLS = st.lists(
    JUNK | st.dictionaries(CALL_KEYS, JUNK | st.dictionaries(st.sampled_from(["name", "arguments"]), JUNK, max_size=2), max_size=3),
    max_size=3,
)
CHOICE_KEYS = st.sampled_from(["index", "delta", "finish_reason", "logprobs", "message", "x"])
GARBAGE = st.fixed_dictionaries(
    {
        "choices": st.lists(
            st.dictionaries(CHOICE_KEYS, JUNK | st.integers(0, 2) | st.dictionaries(KEYS, JUNK | CALLS, max_size=3), max_size=5), max_size=2
        )
    }
)


@settings(max_examples=40)
@given(st.lists(GARBAGE, min_size=1, max_size=5))
def test_whatever_passes_the_wire_folds_counts_and_replays_without_an_error(chunks: list[Json]) -> None:
    fold = Fold()
    for one in chunks:
        with contextlib.suppress(UpstreamError):
            passed, _ = wire.chunk("p", msgspec.json.encode(one))
            if passed is not None:
                has_content(passed)
                fold.add(passed)
    text, body = fold.text(), fold.body(None)
    assert isinstance(text, str)
    list(replay(body))
    msgspec.json.encode(body)


def test_an_unbounded_tool_index_does_not_make_an_unbounded_list() -> None:
    calls = message({"tool_calls": [{"index": 10**9, "id": "a"}]}, {"tool_calls": [{"index": -1, "id": "b"}]})["tool_calls"]
    assert len(calls) == 1


def test_tool_calls_are_joined_by_index() -> None:
    deltas: list[Json] = [
        {"role": "assistant", "content": None},
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": '{"y"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x": 1}'}}, {"index": 1, "function": {"arguments": ": 2}"}}]},
    ]
    assert message(*deltas)["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": '{"y": 2}'}},
    ]


@pytest.mark.parametrize("empty", [None, []])
def test_empty_tool_calls_in_a_delta_leave_no_trace(empty: Any) -> None:
    assert "tool_calls" not in message({"content": "Hi", "tool_calls": empty})


def test_a_server_that_repeats_the_message_in_each_chunk_is_not_heard_twice() -> None:
    parts = []
    for so_far, piece in (("Hel", "Hel"), ("Hello", "lo")):
        one = chunk({"content": piece})
        one["choices"] = [{"message": {"role": "assistant", "content": so_far}, **one["choices"][0]}]
        parts.append(one)
    assert folded(parts)["choices"][0]["message"]["content"] == "Hello"


def test_text_for_estimates_has_everything_generated() -> None:
    fold = Fold()
    fold.add(chunk({"role": "assistant", "content": "a", "reasoning_content": "b"}))
    fold.add(chunk({"tool_calls": [{"index": 0, "function": {"name": "c", "arguments": "d"}}]}))
    fold.add(chunk({"refusal": "e"}, index=1))
    assert sorted(fold.text()) == list("abcde")


@pytest.mark.parametrize(
    ("delta", "finish", "expected"),
    [
        ({}, None, False),
        ({"role": "assistant", "content": "", "refusal": None}, None, False),
        ({"role": "assistant", "tool_calls": []}, None, False),
        ({"content": "x"}, None, True),
        ({"refusal": "no"}, None, True),
        ({"reasoning_content": "hm"}, None, True),
        ({"tool_calls": [{"index": 0}]}, None, True),
        ({}, "stop", True),
    ],
)
def test_a_stream_is_committed_by_what_a_user_would_see(delta: Json, finish: str | None, expected: bool) -> None:  # noqa: FBT001 - a table
    assert has_content(chunk(delta, finish=finish)) is expected


async def test_a_replayed_stream_ends_and_stays_ended() -> None:
    stream = Replayed(iter([{"a": 1}, {"a": 2}]))
    assert [one async for one in stream] == [{"a": 1}, {"a": 2}]
    assert [one async for one in stream] == []


async def test_a_closed_replay_gives_nothing_more() -> None:
    stream = Replayed(iter([{"a": 1}, {"a": 2}]))
    assert await stream.__anext__() == {"a": 1}
    await stream.aclose()
    await stream.aclose()
    assert [one async for one in stream] == []


class Source:
    """A stream of two chunks that then ends as told."""

    def __init__(self, end: BaseException | None = None, on_close: BaseException | None = None) -> None:
        self.closed = 0
        self._on_close = on_close
        self._chunks = self._run(end)

    async def _run(self, end: BaseException | None) -> AsyncGenerator[Json, None]:
        yield {"at": 0}
        yield {"at": 1}
        if end is not None:
            raise end

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> Json:
        return await self._chunks.__anext__()

    async def aclose(self) -> None:
        self.closed += 1
        await self._chunks.aclose()
        if self._on_close:
            raise self._on_close


class Observed:
    """A tee on a source, with what its observer was told."""

    def __init__(self, source: Source) -> None:
        self.seen: list[Json] = []
        self.ends: list[bool] = []
        ended: Callable[[bool], None] = self.ends.append
        self.tee = Tee(source, self.seen.append, ended)


async def test_a_tee_shows_every_chunk_and_says_once_that_the_stream_is_complete() -> None:
    source = Source()
    observed = Observed(source)
    got = [one async for one in observed.tee]
    assert got == observed.seen == [{"at": 0}, {"at": 1}]
    assert observed.ends == [True]
    with pytest.raises(StopAsyncIteration):
        await observed.tee.__anext__()
    await observed.tee.aclose()
    await observed.tee.aclose()
    assert observed.ends == [True]
    assert source.closed == 2


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_a_tee_closed_before_the_end_says_once_that_it_is_not_complete(taken: int) -> None:
    source = Source()
    observed = Observed(source)
    for _ in range(taken):
        await observed.tee.__anext__()
    await observed.tee.aclose()
    await observed.tee.aclose()
    assert observed.ends == [False]
    assert len(observed.seen) == taken
    assert source.closed == 2


@pytest.mark.parametrize("end", [ValueError("broke"), asyncio.CancelledError(), GeneratorExit()])
async def test_a_tee_whose_stream_breaks_says_once_that_it_is_not_complete(end: BaseException) -> None:
    observed = Observed(Source(end))
    with pytest.raises(type(end)):
        async for _ in observed.tee:
            pass
    await observed.tee.aclose()
    assert observed.ends == [False]


async def test_a_tee_tells_of_the_end_even_when_closing_fails() -> None:
    observed = Observed(Source(on_close=OSError("stuck")))
    with pytest.raises(OSError, match="stuck"):
        await observed.tee.aclose()
    assert observed.ends == [False]


async def test_cancelling_the_reader_of_a_tee_ends_it() -> None:
    class Silent(Source):
        async def __anext__(self) -> Json:
            await asyncio.Event().wait()
            raise AssertionError

    observed = Observed(Silent())
    reader = asyncio.ensure_future(observed.tee.__anext__())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert observed.ends == [False]
