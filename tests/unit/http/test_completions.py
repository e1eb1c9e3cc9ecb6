"""Legacy completions as chat requests and back, and several streams as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import FarthingError, InvalidRequest, UpstreamTimeout
from farthing.http import parse
from farthing.http.completions.merged import Merged
from farthing.http.completions.translate import Texts, chat_body, check, prompts_of, usage_sum
from farthing.types import Answer, Extras, Json, Lifeline, Operation, Principal, Request, Source, new_id


def translated(**body: Any) -> list[Json]:
    """The chat requests of a body."""
    typed, raw = parse.completions(msgspec.json.encode({"model": "fast", **body}))
    check(typed, raw)
    return [chat_body(typed, raw, prompt) for prompt in prompts_of(typed, 3)]


def test_each_prompt_is_a_chat_of_its_own_with_sixteen_tokens() -> None:
    assert translated(prompt=["a", "b"]) == [
        {"model": "fast", "messages": [{"role": "user", "content": text}], "max_tokens": 16} for text in ("a", "b")
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 0}, {"max_tokens": 0}),
        ({"max_tokens": None}, {}),
        ({"n": 2, "best_of": 2, "stop": ["x"], "seed": 1}, {"n": 2, "stop": ["x"], "seed": 1}),
        ({"best_of": 1, "suffix": "", "echo": True}, {}),
        ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"logprobs": 0}, {"logprobs": True, "top_logprobs": 0}),
        ({"stream": True, "stream_options": {"include_usage": True}, "top_k": 5}, {"top_k": 5}),
    ],
)
def test_options_keep_their_meaning(body: Json, expected: Json) -> None:
    (found,) = translated(prompt="a", **body)
    assert found == {"model": "fast", "messages": [{"role": "user", "content": "a"}], "max_tokens": 16, **expected}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ""}, "prompt[0]"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": [{}]}, "prompt[0]"),
        ({"prompt": ["a"] * 4}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "n": 0}, "n"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, "echo"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "tools": [{"type": "function"}]}, "tools"),
        ({"prompt": "a", "messages": [{"role": "user"}]}, "messages"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        translated(**body)
    assert caught.value.param == param


def choice(index: int, content: str | None, finish: str | None = "stop", **more: Any) -> Json:
    return {"index": index, "message": {"content": content, **more}, "finish_reason": finish, "logprobs": None}


def test_choices_of_several_prompts_are_numbered_through() -> None:
    texts = Texts(["p", "q"], n=2, echo=True)
    found = [texts.whole(prompt, choice(index, f"{prompt}{index}")) for prompt in (0, 1) for index in (0, 1)]
    assert [(one["index"], one["text"]) for one in found] == [(0, "p00"), (1, "p01"), (2, "q10"), (3, "q11")]


@pytest.mark.parametrize(("given_end", "shown"), [("stop", "stop"), ("length", "length"), ("tool_calls", "stop"), (None, None)])
def test_ends_are_those_of_completions(given_end: str | None, shown: str | None) -> None:
    assert Texts(["p"], n=1, echo=False).whole(0, choice(0, None, given_end))["finish_reason"] == shown


def test_a_refusal_is_the_text() -> None:
    assert Texts(["p"], n=1, echo=False).whole(0, choice(0, None, refusal="no"))["text"] == "no"


def test_log_probabilities_become_parallel_lists_with_offsets() -> None:
    tokens = [
        {"token": "Hé", "logprob": -1.5, "bytes": None, "top_logprobs": [{"token": "Ho", "logprob": -2}]},
        {"token": "llo", "logprob": -0.5},
    ]
    given_choice = {**choice(0, "Héllo"), "logprobs": {"content": tokens}}
    expected = {
        "tokens": ["Hé", "llo"],
        "token_logprobs": [-1.5, -0.5],
        "top_logprobs": [{"Ho": -2}, {}],
        "text_offset": [0, 2],
    }
    assert Texts(["p"], n=1, echo=False).whole(0, given_choice)["logprobs"] == expected
    streamed = Texts(["p"], n=1, echo=False)
    pieces = [
        streamed.piece(0, {"index": 0, "delta": {"content": one["token"]}, "finish_reason": None, "logprobs": {"content": [one]}})
        for one in tokens
    ]
    assert [piece["logprobs"]["text_offset"] for piece in pieces if piece] == [[0], [2]]


@given(st.lists(st.tuples(st.integers(0, 2), st.text(max_size=4)), max_size=20), st.booleans())
def test_the_pieces_of_a_stream_add_up(said: list[tuple[int, str]], echo: bool) -> None:  # noqa: FBT001 - drawn
    texts = Texts(["one", "two", "three"], n=1, echo=echo)
    heard = ["", "", ""]
    for prompt, content in said:
        piece = texts.piece(prompt, {"index": 0, "delta": {"content": content}, "finish_reason": None})
        if piece is not None:
            heard[piece["index"]] += piece["text"]
    for prompt, text in enumerate(heard):
        whole = "".join(content for at, content in said if at == prompt)
        begun = any(at == prompt for at, _ in said)
        assert text == (["one", "two", "three"][prompt] if echo and begun else "") + whole


def test_usage_adds_up_with_its_details() -> None:
    one = {"prompt_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 2}}
    other = {"prompt_tokens": 3, "completion_tokens_details": {"reasoning_tokens": 4}, "estimated": True}
    assert usage_sum([one, None, other]) == {"prompt_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 6}, "estimated": True}
    assert usage_sum([None]) is None


# Several streams as one


class Flow:
    """Streams by prompt. `opened` and `closed` count them; `most` is how many were open at the same time."""

    def __init__(self, **streams: Iterable[str | FarthingError | None]) -> None:
        self._streams = {name: list(pieces) for name, pieces in streams.items()}
        self.opened = self.closed = self.most = 0

    async def __call__(self, request: Request) -> Answer:
        self.opened += 1
        self.most = max(self.most, self.opened - self.closed)
        pieces = self._streams[request.model]
        if pieces and isinstance(pieces[0], FarthingError):
            self.closed += 1
            raise pieces[0]
        answer = Answer(source=Source.MODEL, model=request.model)
        answer.stream = self._chunks(pieces)  # type: ignore[assignment]  # a generator is as much of one as is used
        return answer

    async def _chunks(self, pieces: list[str | FarthingError | None]) -> AsyncGenerator[Json, None]:
        try:
            for piece in pieces:
                await asyncio.sleep(0)
                if isinstance(piece, FarthingError):
                    raise piece
                if piece is None:
                    await asyncio.Event().wait()
                yield {"choices": [], "text": piece}
        finally:
            self.closed += 1

    def requests(self) -> list[Request]:
        who = Principal(key_id=UUID(int=1), tenant="acme")
        lifeline = Lifeline(None)
        common: Json = {
            "principal": who,
            "operation": Operation.CHAT,
            "body": {},
            "extras": Extras(),
            "started_ns": 0,
            "lifeline": lifeline,
        }
        return [Request(id=new_id(), model=name, **common) for name in self._streams]


async def test_every_chunk_of_every_stream_comes_once_and_in_its_order() -> None:
    flow = Flow(a="abc", b="de", c="", d="fghi")
    merged = Merged(flow, flow.requests(), concurrency=2)
    await merged.begin()
    chunks = [chunk async for chunk in merged]
    assert ["".join(one["text"] for one in chunks if one["prompt"] == number) for number in range(4)] == ["abc", "de", "", "fghi"]
    assert (flow.opened, flow.closed, flow.most) == (4, 4, 2)
    assert [answer.model for answer in merged.answers] == ["a", "b", "c", "d"]
    assert [chunk async for chunk in merged] == []
    await merged.aclose()


async def test_an_error_before_the_first_chunk_is_raised_at_the_beginning() -> None:
    flow = Flow(a=[UpstreamTimeout("slow")], b=[None])
    merged = Merged(flow, flow.requests(), concurrency=2)
    with pytest.raises(UpstreamTimeout):
        await merged.begin()
    assert flow.opened == flow.closed


async def test_an_error_later_ends_all() -> None:
    flow = Flow(a=["x", UpstreamTimeout("slow")], b=["y", None], c="never")
    merged = Merged(flow, flow.requests(), concurrency=2)
    await merged.begin()
    with pytest.raises(UpstreamTimeout):
        async for _ in merged:
            pass
    await merged.aclose()
    assert flow.opened == flow.closed == 2


async def test_closing_in_the_middle_closes_every_stream() -> None:
    flow = Flow(a=["x", None], b=["y"] * 1000, c="z")
    merged = Merged(flow, flow.requests(), concurrency=3)
    await merged.begin()
    await anext(merged)
    await merged.aclose()
    await merged.aclose()
    assert flow.opened == flow.closed == 3


async def test_streams_wait_for_a_slow_reader() -> None:
    flow = Flow(a=["x"] * 1000)
    merged = Merged(flow, flow.requests(), concurrency=1)
    await merged.begin()
    for _ in range(2000):
        await asyncio.sleep(0)
    assert merged._queue.qsize() <= 64
    assert len([chunk async for chunk in merged]) == 1000


async def test_an_error_is_told_although_many_chunks_wait() -> None:
    flow = Flow(a=[*("x" * 64), UpstreamTimeout("slow")], b=["y"] * 200)
    merged = Merged(flow, flow.requests(), concurrency=2)
    await merged.begin()
    for _ in range(1000):
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        with pytest.raises(UpstreamTimeout):
            async for _ in merged:
                pass
    await merged.aclose()
    assert flow.opened == flow.closed
