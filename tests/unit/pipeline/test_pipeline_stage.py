from __future__ import annotations

from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from farthing.pipeline.stage import Next, Stage, compose
from farthing.pipeline.tokens import count_request, count_text, estimate
from farthing.types import ANONYMOUS, Answer, Extras, Lifeline, Operation, Request, Source


def request() -> Request:
    return Request(
        id=UUID(int=1),
        principal=ANONYMOUS,
        operation=Operation.CHAT,
        body={},
        model="m",
        extras=Extras(),
        started_ns=0,
        lifeline=Lifeline(None),
    )


async def test_stages_are_passed_in_order_and_left_in_reverse() -> None:
    trace: list[str] = []

    def stage(name: str) -> Stage:
        async def one(request: Request, following: Next) -> Answer:
            trace.append(f"into {name}")
            answer = await following(request)
            trace.append(f"out of {name}")
            return answer

        return one

    async def last(_: Request) -> Answer:
        trace.append("last")
        return Answer(source=Source.MODEL, model="m")

    await compose([stage("a"), stage("b")], last)(request())
    assert trace == ["into a", "into b", "last", "out of b", "out of a"]


async def test_a_stage_may_answer_by_itself() -> None:
    async def cached(_: Request, __: Next) -> Answer:
        return Answer(source=Source.EXACT, model="m")

    async def last(_: Request) -> Answer:
        raise AssertionError("must not be reached")

    assert (await compose([cached], last)(request())).source is Source.EXACT


async def test_no_stages_is_the_last_one() -> None:
    async def last(_: Request) -> Answer:
        return Answer(source=Source.MODEL, model="m")

    assert compose([], last) is last


@given(st.text())
def test_a_text_has_a_token_for_every_four_bytes_begun(text: str) -> None:
    assert count_text(text) * 4 >= len(text.encode("utf-8", "surrogatepass")) > (count_text(text) - 1) * 4


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "x"]), JSON))
def test_any_body_has_a_guess(body: dict[str, Any]) -> None:
    usage = estimate(body, "abcde")
    assert usage.input >= 0
    assert (usage.output, usage.source) == (2, "estimated")


def test_only_text_counts_and_each_message_costs_its_frame() -> None:
    parts = [{"type": "text", "text": "12345678"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 1000}}]
    body = {"messages": [{"role": "system", "content": "1234"}, {"role": "user", "content": parts}]}
    assert count_request(body) == 4 + 1 + 4 + 2
    assert count_request({"input": ["1234", "1234"]}) == 2
