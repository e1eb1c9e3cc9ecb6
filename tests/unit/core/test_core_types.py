from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.types import Lifeline, Usage, dollars, new_id, uuid7_at


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid7_and_carries_its_time(unix_ms: int, noise: bytes) -> None:
    made = uuid7_at(unix_ms, noise)
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == unix_ms


@given(st.integers(0, 2**48 - 2), st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_ids_sort_by_time(unix_ms: int, one: bytes, other: bytes) -> None:
    assert uuid7_at(unix_ms, one) < uuid7_at(unix_ms + 1, other)
    assert uuid7_at(unix_ms, bytes(10)) <= uuid7_at(unix_ms, one)


def test_ids_do_not_repeat() -> None:
    assert len({new_id() for _ in range(10_000)}) == 10_000


@given(st.integers(-(10**18), 10**18))
def test_dollars_are_exact(microusd: int) -> None:
    shown = dollars(microusd)
    assert Decimal(shown) * 1_000_000 == microusd
    assert len(shown.split(".")[1]) == 6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details", "cached_tokens", "estimated"]
)


@settings(max_examples=50)
@given(JSON | st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON)))
def test_usage_of_anything_is_none_or_bounded_counts(raw: Any) -> None:
    usage = Usage.of(raw)
    if usage is not None:
        counts = (usage.input, usage.output, usage.cache_read, usage.cache_write, usage.reasoning)
        assert all(type(count) is int and 0 <= count <= 1_000_000_000 for count in counts)


def test_usage_reads_openais_details() -> None:
    raw = {
        "prompt_tokens": 10,
        "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert Usage.of(raw) == Usage(input=10, output=7, cache_read=4, cache_write=2, reasoning=3, source="provider")


@pytest.mark.parametrize("raw", [None, [], "x", {}, {"prompt_tokens": None}, {"prompt_tokens": "9"}, {"prompt_tokens": True}])
def test_what_is_no_usage_object_is_none(raw: Any) -> None:
    assert Usage.of(raw) is None


def test_a_guess_is_labelled_and_read_back_as_a_guess() -> None:
    guess = Usage(input=5, output=2, source="estimated")
    assert guess.as_openai() == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "estimated": True}
    assert Usage.of(guess.as_openai()) == guess
    assert "estimated" not in Usage(input=5, source="provider").as_openai()


async def test_the_last_to_let_go_ends_the_work() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    lifeline = Lifeline(task)
    lifeline.hold()
    lifeline.hold()
    lifeline.release()
    lifeline.release()
    await asyncio.sleep(0)
    assert not lifeline.dropped
    assert not task.done()
    lifeline.release()
    assert lifeline.dropped
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_lifeline_without_a_task_only_counts() -> None:
    lifeline = Lifeline(None)
    lifeline.release()
    assert lifeline.dropped
