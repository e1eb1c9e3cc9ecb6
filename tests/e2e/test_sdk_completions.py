"""/v1/completions through the official SDK, synchronous and asynchronous."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import openai
import pytest
from inside import query
from openai import AsyncOpenAI, OpenAI
from probes import Probe

from farthing.testing.installation import Installation
from farthing.testing.replies import completion, error, stream, usage_object
from farthing.testing.upstream import ScriptedUpstream


def fresh(text: str = "once upon a time") -> str:
    """A prompt that nobody has sent before."""
    return f"{text} {uuid4()}"


def test_answer_and_headers(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", completion("there was a coin.", usage=usage_object(4, 6), finish_reason="length"))
    prompt = fresh()
    raw = sdk.completions.with_raw_response.create(model="fast", prompt=prompt, stop=["\n"], seed=7)
    answer = raw.parse()
    assert (answer.object, answer.id.startswith("cmpl-"), answer.choices[0].text) == ("text_completion", True, "there was a coin.")
    assert (answer.choices[0].finish_reason, answer.choices[0].logprobs, answer.choices[0].index) == ("length", None, 0)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (4, 6, 10)
    assert (raw.headers["x-farthing-source"], raw.headers["x-farthing-model"]) == ("model", "fast")
    sent = up.requests[-1].body
    assert sent == {"model": "fast", "messages": [{"role": "user", "content": prompt}], "stop": ["\n"], "seed": 7, "max_tokens": 16}
    again = sdk.completions.with_raw_response.create(model="fast", prompt=prompt, stop=["\n"], seed=7)
    assert again.headers["x-farthing-source"] == "exact"
    assert again.parse().choices[0].text == "there was a coin."


async def test_asynchronous_answer_and_stream(async_sdk: AsyncOpenAI) -> None:
    prompt = fresh()
    answer = await async_sdk.completions.create(model="fast", prompt=prompt, echo=True)
    assert answer.choices[0].text == prompt * 2
    events = await async_sdk.completions.create(model="fast", prompt=prompt, echo=True, stream=True)
    assert "".join([event.choices[0].text async for event in events]) == prompt * 2


def test_several_prompts_are_several_choices_each_in_the_ledger(sdk: OpenAI, gateway: Installation, probe: Probe) -> None:
    prompts = [fresh(str(number)) for number in range(20)]
    with probe.adds(requests=20, attempts=20, errors=0, idle=8):
        raw = sdk.completions.with_raw_response.create(model="fast", prompt=prompts, extra_body={"farthing": {"task_type": "several"}})
    answer = raw.parse()
    assert [(choice.index, choice.text) for choice in answer.choices] == list(enumerate(prompts))
    assert answer.usage is not None
    assert answer.usage.total_tokens > 20
    rows = query(gateway, "SELECT cost_microusd FROM farthing.ledger WHERE task_type = 'several'")
    assert len(rows) == 20
    assert raw.headers["x-farthing-cost-usd"] == f"{sum(row['cost_microusd'] for row in rows) / 1e6:.6f}"


def test_several_prompts_stream_together(sdk: OpenAI, probe: Probe) -> None:
    prompts = [fresh(f"number {number} of") for number in range(12)]
    with probe.adds(requests=12, attempts=12, errors=0, idle=8):
        *events, last = sdk.completions.create(model="fast", prompt=prompts, stream=True, stream_options={"include_usage": True})
    texts = [""] * 12
    for event in events:
        assert event.usage is None
        for choice in event.choices:
            texts[choice.index] += choice.text
    assert texts == prompts
    assert {choice.finish_reason for event in events for choice in event.choices} == {None, "stop"}
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.prompt_tokens > 12
    assert len({event.id for event in (*events, last)}) == 1


def test_a_stream_that_its_client_leaves_is_closed_everywhere(sdk: OpenAI, up: ScriptedUpstream, probe: Probe) -> None:
    up.script("fast", stream(["word "] * 200, delay=0.02))
    with probe.adds(requests=3, idle=8):
        events = sdk.completions.create(model="fast", prompt=[fresh() for _ in range(3)], stream=True)
        next(iter(events))
        events.close()


def test_one_failure_fails_all_and_a_retry_pays_for_the_rest_only(sdk: OpenAI, up: ScriptedUpstream) -> None:
    prompts = [fresh(word) for word in ("good", "bad", "good")]
    up.script("fast", lambda received: error(400, "no") if "bad" in received.body["messages"][0]["content"] else completion("fine"))
    with pytest.raises(openai.BadRequestError, match="no"):
        sdk.completions.create(model="fast", prompt=prompts)
    before = up.received
    up.script("fast", completion("better"))
    answer = sdk.completions.create(model="fast", prompt=prompts)
    assert [choice.text for choice in answer.choices] == ["fine", "better", "fine"]
    assert up.received == before + 1


def test_log_probabilities_have_the_old_shape(sdk: OpenAI, up: ScriptedUpstream) -> None:
    reply = completion("Hello")
    tokens: list[Any] = [{"token": part, "logprob": -0.1, "bytes": None, "top_logprobs": []} for part in ("Hel", "lo")]
    reply.json["choices"][0]["logprobs"] = {"content": tokens, "refusal": None}
    up.script("fast", reply)
    answer = sdk.completions.create(model="fast", prompt=fresh(), logprobs=1)
    assert answer.choices[0].logprobs is not None
    assert (answer.choices[0].logprobs.tokens, answer.choices[0].logprobs.text_offset) == (["Hel", "lo"], [0, 3])
    assert up.requests[-1].body["top_logprobs"] == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": ["x"] * 129}, "prompt"),
        ({"prompt": "x", "suffix": "y"}, "suffix"),
        ({"prompt": "x", "best_of": 3}, "best_of"),
        ({"prompt": "x", "logprobs": "many"}, "logprobs"),
    ],
)
def test_what_chat_models_cannot_do_is_refused(body: dict[str, Any], param: str, sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.completions.create(model="fast", **body)
    assert caught.value.param == param


def test_errors_before_a_stream_are_errors(sdk: OpenAI, up: ScriptedUpstream) -> None:
    up.script("fast", error(429, "slow down", code="rate_limit_exceeded", headers={"retry-after": "7"}))
    with pytest.raises(openai.RateLimitError):
        sdk.completions.create(model="fast", prompt=[fresh(), fresh()], stream=True)


def test_local_model_completes(local: Installation) -> None:
    with OpenAI(base_url=local.base_url, api_key=local.key, max_retries=0, timeout=60) as home:
        answer = home.completions.create(model="local", prompt=fresh("A farthing is"))
        assert answer.choices[0].text
        assert answer.usage is not None
        assert 1 <= answer.usage.completion_tokens <= 16
        events = list(home.completions.create(model="local", prompt=[fresh("One"), fresh("Two")], max_tokens=8, stream=True))
        assert {choice.index for event in events for choice in event.choices} == {0, 1}
