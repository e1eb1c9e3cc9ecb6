from __future__ import annotations

import copy
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.keys import exact_key
from farthing.caching.question import Asked, question_of
from farthing.errors import InvalidRequest
from farthing.pipeline.errands import question_to, renewal
from farthing.prompts.stage import Prompts, prompt_of
from farthing.settings import CacheSettings, PromptSettings
from farthing.types import Answer, Extras, Json, Lifeline, Operation, Principal, Request, Source, new_id

SUPPORT = PromptSettings(system="You help customers.", variants={"llama": "Help customers. Be brief."})
ASKED = [{"role": "user", "content": "When does the shop open?"}]
PROMPTS = Prompts({"support": SUPPORT, "sales": PromptSettings(system="You sell.")})


def request(prompt: str | None = None, body: Json | None = None, operation: Operation = Operation.CHAT, size: int = 0) -> Request:
    return Request(
        id=new_id(),
        principal=Principal(key_id=UUID(int=1), tenant="t"),
        operation=operation,
        body={"model": "m", "temperature": 0, "messages": [{"role": "user", "content": "When does the shop open?"}]}
        if body is None
        else body,
        size=size,
        model="m",
        extras=Extras(prompt=prompt),
        started_ns=0,
        lifeline=Lifeline(None),
    )


async def through(asked: Request, prompts: Prompts = PROMPTS) -> Request:
    """The request as the stages behind see it."""
    seen: list[Request] = []

    async def following(one: Request) -> Answer:
        seen.append(one)
        return Answer(source=Source.MODEL, model="m")

    await prompts(asked, following)
    return seen[0]


async def test_a_request_without_a_prompt_goes_by_untouched() -> None:
    asked = request()
    body = asked.body
    found = await through(asked)
    assert found.body is body
    assert (found.prompt, found.prompt_version) == (None, None)


async def test_the_prompts_text_comes_before_all_that_the_request_brings() -> None:
    own = {"role": "system", "content": "Answer in French."}
    asked = request("support", {"model": "m", "messages": [own, {"role": "user", "content": "hello"}]})
    sent = asked.body
    before = copy.deepcopy(sent)
    found = await through(asked)
    assert [one["content"] for one in found.body["messages"]] == ["You help customers.", "Answer in French.", "hello"]
    assert found.prompt_version == prompt_of("support", SUPPORT).version
    assert sent == before, "what the caller sent is not changed in place"


@pytest.mark.parametrize(
    ("name", "words"), [("suport", "did you mean 'support'"), ("zzz", "known: sales, support"), ("x" * 200, "known: sales, support")]
)
async def test_an_unknown_prompt_is_refused_with_what_there_is(name: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        await through(request(name))
    assert (caught.value.param, caught.value.status) == ("farthing.prompt", 400)
    assert len(caught.value.message) < 200


async def test_without_any_prompts_naming_one_is_still_refused() -> None:
    with pytest.raises(InvalidRequest, match="known: none"):
        await through(request("support"), Prompts({}))


async def test_embeddings_have_no_prompt() -> None:
    with pytest.raises(InvalidRequest, match="not for embeddings"):
        await through(request("support", {"input": "x"}, Operation.EMBEDDINGS))


async def test_what_may_be_spent_counts_the_longest_of_its_texts() -> None:
    assert (await through(request("support", size=100))).size == 100 + len(SUPPORT.variants["llama"])


texts = st.text(min_size=1, max_size=20).filter(str.strip)
variants = st.dictionaries(st.sampled_from(["llama", "claude", "gpt"]), texts, max_size=3)


@given(one=texts, other=texts, these=variants, those=variants)
def test_a_version_names_what_all_models_are_told(one: str, other: str, these: dict[str, str], those: dict[str, str]) -> None:
    first = prompt_of("p", PromptSettings(system=one, variants=these))
    second = prompt_of("p", PromptSettings(system=other, variants=dict(reversed(those.items()))))
    assert (first.version == second.version) == ((one, these) == (other, those))
    assert first.version.startswith("p@")
    assert len(first.version) == len("p@") + 8


def _keys(asked: Request) -> tuple[bytes, bytes]:
    found = question_of(asked, CacheSettings(), "e")
    assert isinstance(found, Asked)
    return exact_key(asked), found.partition


async def test_answers_to_one_version_of_a_prompt_are_not_given_to_another() -> None:
    changed = PromptSettings(system=SUPPORT.system, variants={"llama": "Other words."})
    sent = {"model": "m", "temperature": 0, "messages": [{"role": "system", "content": SUPPORT.system}, *request().body["messages"]]}
    requests = [
        await through(request("support")),
        await through(request("support"), Prompts({"support": changed})),
        await through(request("support"), Prompts({"support": PromptSettings(system=SUPPORT.system)})),
        request(body=sent),
        request(),
    ]
    for keys in zip(*map(_keys, requests), strict=True):
        assert len(set(keys)) == len(requests)
    assert _keys(await through(request("support"))) == _keys(requests[0])


async def test_a_new_answer_for_a_stale_one_is_asked_for_with_the_prompt_and_a_judge_without() -> None:
    asked = await through(request("support"))
    again: Any = renewal(asked)
    assert (again.prompt, again.prompt_version, again.body["messages"]) == (asked.prompt, asked.prompt_version, asked.body["messages"])
    judge = question_to("judge", {"messages": []}, asked)
    assert (judge.prompt, judge.prompt_version) == (None, None)
