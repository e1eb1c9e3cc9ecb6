"""Bodies from other vendors' doors, made what OpenAI-compatible servers take."""

from __future__ import annotations

from farthing.providers.translated import adapted
from farthing.types import Json

TEXT = {"type": "text", "text": "seen"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def messages(*given: Json) -> list[Json]:
    found: list[Json] = adapted({"messages": list(given)}, newer_names=False)["messages"]
    return found


def test_openai_itself_gets_the_newer_name_for_the_bound_of_an_answer() -> None:
    assert adapted({"max_tokens": 5}, newer_names=True) == {"max_completion_tokens": 5}
    assert adapted({"max_tokens": 5}, newer_names=False) == {"max_tokens": 5}


def test_pictures_move_behind_the_results_of_their_turn() -> None:
    results: list[Json] = [
        {"role": "tool", "tool_call_id": "a", "content": [TEXT, PICTURE]},
        {"role": "tool", "tool_call_id": "b", "content": "plain"},
        {"role": "tool", "tool_call_id": "c", "content": [PICTURE]},
    ]
    after = {"role": "user", "content": "and?"}
    found = messages(*results, after)
    assert [message["role"] for message in found] == ["tool", "tool", "tool", "user", "user"]
    assert found[0]["content"] == [TEXT]
    assert found[1] == results[1]
    assert found[2]["content"] == "(see the next message)"
    said = found[3]["content"]
    assert [part.get("text") for part in said] == ["From the result of a:", None, "From the result of c:", None]
    assert said[1] == said[3] == PICTURE
    assert found[4] == after
    assert results[0]["content"] == [TEXT, PICTURE], "the body given stays as it is"


def test_pictures_of_the_last_result_are_not_lost() -> None:
    assert messages({"role": "tool", "tool_call_id": "a", "content": [PICTURE]})[-1]["role"] == "user"


def test_other_bodies_stay_as_they_are() -> None:
    body: Json = {"messages": [{"role": "user", "content": [TEXT, PICTURE]}, {"role": "tool", "content": [TEXT]}], "input": "x"}
    assert adapted(body, newer_names=False) == body
    assert adapted({"messages": "x"}, newer_names=False) == {"messages": "x"}
