"""The recall stage: what it puts in, what it keeps, and what it does when something is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recall_house import House, KnownFacts, Meanings, fact, request

from farthing.errors import InvalidRequest, Unavailable, UpstreamUnavailable
from farthing.inprocess.turns import InProcessTurns
from farthing.memory.block import CLOSE, OPEN
from farthing.memory.injection import kept_history
from farthing.settings.memory_recall import RecallSettings
from farthing.types import Operation

PLAN = fact(1, "plan", "pro")
FACTS = KnownFacts([PLAN, fact(2, "diet", "vegetarian"), fact(3, "plan", "free", user="bob"), fact(4, "plan", "gold", tenant="rival")])


def _block(house: House) -> str:
    (found,) = [content for role, content in house.sent if role == "system" and OPEN in content]
    return str(found)


async def test_facts_of_the_user_and_nobody_elses_stand_behind_the_instructions() -> None:
    house = House(facts=FACTS)
    await house.send(request([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}], memory="facts"))
    assert [role for role, _ in house.sent] == ["system", "system", "user"]
    assert house.sent[0] == ("system", "Be kind.")
    assert _block(house).splitlines()[1:] == [OPEN, "Facts:", "- diet: vegetarian", "- plan: pro", CLOSE]


@pytest.mark.parametrize("extras", [{}, {"memory": "off"}, {"memory": False}, {"user": None}])
async def test_nothing_is_put_in_for_those_who_do_not_want_it(extras: dict[str, Any]) -> None:
    house = House(RecallSettings(default="off" if not extras else "facts"), FACTS)
    asked = request([{"role": "user", "content": "Hi"}], **extras)
    body = asked.body
    await house.send(asked)
    assert house.seen[-1].body is body
    assert (house.seen[-1].recalled, house.told) == (None, [])


@pytest.mark.parametrize(
    ("asked", "default", "mode"), [(True, "off", "facts"), ("on", "facts+windows", "facts+windows"), (None, "facts", "facts")]
)
async def test_who_says_nothing_or_only_yes_gets_the_default(asked: Any, default: Any, mode: str) -> None:
    house = House(RecallSettings(default=default), FACTS)
    await house.ask("Hi", memory=asked)
    assert house.seen[-1].extras.memory == mode
    assert house.seen[-1].extras.personal is True


async def test_memory_of_nobody_is_refused_where_it_was_asked_for() -> None:
    with pytest.raises(InvalidRequest, match="whose memory"):
        await House(facts=FACTS).ask("Hi", user=None, memory="facts")


@pytest.mark.parametrize("extras", [{"memory": "facts"}, {"conversation_id": "c"}])
async def test_memory_is_for_chats(extras: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="is for chats"):
        await House(facts=FACTS).send(request([], operation=Operation.EMBEDDINGS, **extras))


async def test_a_user_of_whom_nothing_is_known_gets_no_block() -> None:
    house = House(facts=FACTS)
    await house.ask("Hi", user="carl", memory="facts")
    assert house.sent == [("user", "Hi")]
    assert house.seen[-1].recalled == "facts=0;windows=0;turns=0"
    assert house.stage.came == {"found": 0, "empty": 1, "away": 0}


async def test_the_trace_names_the_facts_by_the_ends_of_their_ids() -> None:
    house = House(facts=KnownFacts([PLAN]))
    await house.ask("Hi", memory="facts")
    assert house.seen[-1].recalled == "facts=1;windows=0;turns=0;ids=00000001"
    many = House(RecallSettings(max_fact_tokens=10_000), KnownFacts([fact(at, f"key{at}", "x") for at in range(100)]))
    await many.ask("Hi", memory="facts")
    assert len(many.seen[-1].recalled or "") <= 256


@pytest.mark.parametrize("away", [KnownFacts([PLAN], away=True), KnownFacts([PLAN], wait_s=5)])
async def test_facts_that_are_away_or_slow_cost_memory_and_no_answer(away: KnownFacts) -> None:
    house = House(RecallSettings(read_timeout_s=0.01), away)
    answer = await house.ask("Hi", memory="facts")
    assert answer.model == "m"
    assert house.sent == [("user", "Hi")]
    assert house.seen[-1].recalled == "facts=0;windows=0;turns=0;away=facts"
    assert house.stage.came["away"] == 1


async def test_where_not_all_facts_fit_those_like_the_question_are_put_in() -> None:
    facts = [fact(at, f"note{at}", "the office is on the second floor of the building") for at in range(20)]
    facts += [fact(30, "habit", "vegetarian"), fact(31, "hobby", "tennis")]
    house = House(RecallSettings(max_fact_tokens=40), KnownFacts(facts), embedder=Meanings())
    await house.ask("What should I eat?", memory="facts")  # the facts' embeddings are read for the next one
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await house.ask("What should I eat?", memory="facts")
    assert "vegetarian" in _block(house)
    await house.ask("Where do I run?", memory="facts")
    assert "tennis" in _block(house)


async def test_a_conversation_goes_on_with_only_the_new_turn() -> None:
    house = House(answers=["Hello Ann.", "You are Ann.", "Bye."])
    await house.ask("I am Ann.", conversation_id="c1")
    await house.ask("Who am I?", conversation_id="c1")
    assert house.sent == [("user", "I am Ann."), ("assistant", "Hello Ann."), ("user", "Who am I?")]
    assert house.seen[-1].recalled == "facts=0;windows=0;turns=2"
    await house.send(request([{"role": "system", "content": "S"}, {"role": "user", "content": "Bye"}], conversation_id="c1"))
    assert [role for role, _ in house.sent] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [text for _, text in await house.said()] == ["I am Ann.", "Hello Ann.", "Who am I?", "You are Ann.", "Bye", "Bye."]


async def test_conversations_of_other_users_and_tenants_and_of_nobody_are_others() -> None:
    house = House()
    await house.ask("Ann's secret", conversation_id="c1")
    for other in ({"user": "bob"}, {"tenant": "rival"}, {"user": None}, {"conversation_id": "C1"}):
        await house.ask("Tell me", **{"conversation_id": "c1", **other})
        assert house.sent == [("user", "Tell me")]


async def test_a_stream_is_kept_when_it_has_ended_and_before_its_end_is_told() -> None:
    house = House(answers=["One two three."])
    answer = await house.ask("Count", stream=True, conversation_id="c1")
    assert answer.stream is not None
    assert await house.said() == []
    async for _ in answer.stream:
        pass
    assert await house.said() == [("user", "Count"), ("assistant", "One two three.")]
    await answer.stream.aclose()
    assert len(await house.said()) == 2


async def test_of_a_stream_that_was_left_the_users_turn_stays_and_the_retry_is_the_same_turn() -> None:
    house = House(answers=["One two three.", "One two."])
    answer = await house.ask("Count", stream=True, conversation_id="c1")
    assert answer.stream is not None
    await anext(answer.stream)
    await answer.stream.aclose()
    await house.conversations.drain()
    assert await house.said() == [("user", "Count")]
    await house.ask("Count", conversation_id="c1")
    assert house.sent == [("user", "Count")]
    assert await house.said() == [("user", "Count"), ("assistant", "One two.")]


async def test_the_same_words_again_after_an_answer_are_a_new_turn() -> None:
    house = House(answers=["One.", "Two."])
    await house.ask("More", conversation_id="c1")
    await house.ask("More", conversation_id="c1")
    assert await house.said() == [("user", "More"), ("assistant", "One."), ("user", "More"), ("assistant", "Two.")]


async def test_of_a_request_that_fails_nothing_is_kept_or_told() -> None:
    house = House(facts=FACTS)

    async def fail() -> None:
        raise UpstreamUnavailable("down")

    house.before_answer = fail
    with pytest.raises(UpstreamUnavailable):
        await house.ask("Hi", conversation_id="c1", memory="facts")
    assert (await house.said(), house.told) == ([], [])


async def test_turns_at_the_same_time_are_all_kept_each_with_its_answer() -> None:
    house = House(answers=[f"answer {at}" for at in range(5)])
    house.before_answer = lambda: asyncio.sleep(0)
    await asyncio.gather(*(house.ask(f"question {at}", conversation_id="c1") for at in range(5)))
    said = await house.said()
    assert [role for role, _ in said] == ["user", "assistant"] * 5
    assert {text for _, text in said} == {f"{what} {at}" for at in range(5) for what in ("question", "answer")}


async def test_the_same_turn_twice_at_the_same_time_is_kept_once() -> None:
    house = House(answers=["first", "second"])
    house.before_answer = lambda: asyncio.sleep(0)
    await asyncio.gather(*(house.ask("Hi", conversation_id="c1") for _ in range(2)))
    assert [role for role, _ in await house.said()] == ["user", "assistant"]


async def test_a_client_that_sends_its_history_gets_no_other_one_but_its_turn_is_kept() -> None:
    house = House(answers=["a", "b"])
    await house.ask("First", conversation_id="c1")
    history = [{"role": "user", "content": "First"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "Second"}]
    await house.send(request(history, conversation_id="c1"))
    assert house.sent == [("user", "First"), ("assistant", "a"), ("user", "Second")]
    assert [text for _, text in await house.said()] == ["First", "a", "Second", "b"]


async def test_the_round_of_a_tool_belongs_to_the_turn_that_is_under_way() -> None:
    house = House(answers=["It rains.", "Sunny."])
    await house.ask("Hello", conversation_id="c1")
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    under_way = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
    ]
    await house.send(request(under_way, conversation_id="c1"))
    assert [role for role, _ in house.sent] == ["user", "assistant", "user", "assistant", "tool"]
    assert (await house.said())[-2:] == [("user", "Weather?"), ("assistant", "Sunny.")]


async def test_only_the_latest_turns_go_along_and_older_ones_where_they_matter() -> None:
    settings = RecallSettings(recent_turns=2, max_window_tokens=40)
    house = House(settings, answers=["Good.", *["Yes."] * 5, "Rex!"])
    await house.ask("My dog is called Rex.", conversation_id="c1")
    for at in range(5):
        await house.ask(f"The weather of day {at}?", conversation_id="c1")
    await house.ask("What is my dog called?", conversation_id="c1")
    assert [content for role, content in house.sent if role != "system"] == ["The weather of day 4?", "Yes.", "What is my dog called?"]
    assert "user: My dog is called Rex." in _block(house)
    assert house.seen[-1].recalled is not None
    assert ";turns=2" in house.seen[-1].recalled


async def test_windows_come_from_all_conversations_of_the_user_and_of_nobody_else() -> None:
    house = House()
    await house.ask("I play tennis on Monday.", conversation_id="old")
    await house.ask("Bob plays tennis in secret.", conversation_id="old", user="bob")
    await house.ask("When do I play tennis?", memory="facts+windows")
    assert "user: I play tennis on Monday." in _block(house)
    assert "Bob" not in _block(house)
    assert await house.said("") == [("user", "When do I play tennis?"), ("assistant", "So be it.")]


async def test_what_the_client_sends_itself_is_not_put_in_again() -> None:
    house = House()
    await house.ask("I play tennis on Monday.", memory="facts+windows")
    history = [
        {"role": "user", "content": "I play tennis on Monday."},
        {"role": "assistant", "content": "So be it."},
        {"role": "user", "content": "When do I play tennis?"},
    ]
    await house.send(request(history, memory="facts+windows"))
    assert [role for role, _ in house.sent] == ["user", "assistant", "user"]


async def test_a_turn_that_is_too_long_to_be_kept_is_refused_with_what_to_do() -> None:
    house = House(RecallSettings(max_turn_bytes=10))
    with pytest.raises(InvalidRequest, match=r"without farthing\.conversation_id"):
        await house.ask("x" * 11, conversation_id="c1")
    await house.ask("x" * 11)


async def test_a_long_answer_is_kept_up_to_the_bound() -> None:
    house = House(RecallSettings(max_turn_bytes=10), answers=["ä" * 50])
    await house.ask("Hi", conversation_id="c1")
    ((_, kept),) = (await house.said())[1:]
    assert kept == "äää…"


@pytest.mark.parametrize("extras", [{"store": False}, {"body": {"store": False}}])
async def test_who_wants_nothing_stored_gets_memory_and_leaves_none(extras: dict[str, Any]) -> None:
    house = House(facts=FACTS)
    await house.ask("Hi", memory="facts+windows", conversation_id="c1", **extras)
    assert "plan: pro" in _block(house)
    assert (await house.said(), await house.said(""), house.told) == ([], [], [])


async def test_the_bus_is_told_what_the_user_said_and_nothing_of_what_was_recalled_or_answered() -> None:
    house = House(facts=FACTS, answers=["An answer."])
    await house.ask("Earlier.", "I moved to Rome.", memory="facts", conversation_id="c1")
    (told,) = house.told
    asked = house.seen[-1]
    assert (told.type, told.source, told.id, told.tenant, told.user, told.subject) == (
        "farthing.chat.turn",
        "farthing/gateway",
        str(asked.id),
        "acme",
        "ann",
        "c1",
    )
    assert told.data == {
        "text": "Earlier.\nI moved to Rome.",
        "conversation": "c1",
        "role": "user",
        "request_id": str(asked.id),
        "key_id": str(asked.principal.key_id),
    }


async def test_nothing_is_told_of_a_user_whose_memory_is_off() -> None:
    house = House(facts=FACTS)
    await house.ask("I moved to Rome.", conversation_id="c1")
    assert house.told == []
    assert len(await house.said()) == 2


class _Away(InProcessTurns):
    """A store that is away until `back`."""

    back = False

    async def add(self, turns: Any) -> None:
        if not self.back:
            raise Unavailable("away")
        await super().add(turns)

    async def of(self, *args: Any, **kwargs: Any) -> Any:
        if not self.back:
            raise Unavailable("away")
        return await super().of(*args, **kwargs)


async def test_a_conversation_whose_store_is_away_goes_on_with_what_the_client_sent_and_is_kept_later() -> None:
    store = _Away()
    house = House(store=store)
    answer = await house.ask("One", conversation_id="c1")
    await house.ask("One", conversation_id="c1")
    assert answer.model == "m"
    assert house.sent == [("user", "One")]
    assert house.seen[-1].recalled == "facts=0;windows=0;turns=0;away=conversation"
    assert house.conversations.pending == 4
    store.back = True
    await house.conversations.drain()
    assert [text for _, text in await house.said()] == ["One", "So be it."] * 2
    assert house.conversations.pending == 0


async def test_what_waits_for_the_store_is_bounded() -> None:
    house = House(RecallSettings(max_pending_turns=3), store=_Away())
    for at in range(3):
        await house.ask(f"turn {at}", conversation_id="c1")
    assert (house.conversations.pending, house.conversations.dropped) == (3, 3)


async def test_history_that_the_client_sends_stays_as_it_is() -> None:
    house = House(facts=FACTS)
    history = [{"role": role, "content": f"{role} {at}"} for at in range(20) for role in ("user", "assistant")]
    await house.send(request([*history, {"role": "user", "content": "Hi"}], memory="facts"))
    assert len(house.sent) == 42


async def test_facts_take_the_place_of_history_where_the_settings_say_so() -> None:
    house = House(RecallSettings(replace_history=True, recent_turns=4), FACTS)
    history = [{"role": role, "content": f"{role} {at}"} for at in range(20) for role in ("user", "assistant")]
    asked = [{"role": "system", "content": "S"}, *history, {"role": "user", "content": "Hi"}]
    await house.send(request(asked, memory="facts"))
    assert house.sent[0] == ("system", "S")
    assert [content for role, content in house.sent if role != "system"] == ["user 18", "assistant 18", "user 19", "assistant 19", "Hi"]
    await house.send(request(asked, memory="off"))
    assert len(house.sent) == 42


async def test_a_question_longer_than_what_may_stay_is_sent_whole() -> None:
    house = House(RecallSettings(replace_history=True, max_recent_tokens=10), FACTS)
    asked = [{"role": "user", "content": "old"}, {"role": "assistant", "content": "old"}, {"role": "user", "content": "x" * 1000}]
    await house.send(request(asked, memory="facts"))
    assert house.sent[-1] == ("user", "x" * 1000)
    assert ("user", "old") not in house.sent


async def test_the_result_of_a_tool_never_goes_without_its_call() -> None:
    house = House(RecallSettings(replace_history=True, recent_turns=1), FACTS)
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "user", "content": "b"},
        {"role": "tool", "tool_call_id": "1", "content": "r"},
    ]
    await house.send(request(asked, memory="facts"))
    assert [role for role, _ in house.sent if role != "system"] == ["user", "assistant", "user", "tool"]


async def test_the_size_of_a_request_grows_with_what_is_put_in() -> None:
    house = House(facts=FACTS)
    await house.send(request([{"role": "user", "content": "Hi"}], memory="facts", size=10))
    assert house.seen[-1].size > 10 + len("- plan: pro")


@pytest.mark.parametrize("content", [[{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "x"}}], "Look"])
async def test_of_a_turn_its_text_is_kept(content: Any) -> None:
    house = House()
    await house.send(request([{"role": "user", "content": content}], conversation_id="c1"))
    assert (await house.said())[0] == ("user", "Look")


@pytest.mark.parametrize(
    "messages", [[], [{"role": "user"}], [{"role": "user", "content": None}], ["odd"], [{"role": "system", "content": "S"}]]
)
async def test_odd_messages_pass_and_leave_no_empty_turns(messages: list[Any]) -> None:
    house = House(facts=FACTS)
    await house.send(request(messages, memory="facts+windows", conversation_id="c1"))
    assert await house.said() == []
    assert "plan: pro" in _block(house)


_ROLES = st.sampled_from(["user", "assistant", "call", "tool", "system"])


def _message(role: str, at: int) -> dict[str, Any]:
    if role == "call":
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }
    return {"role": role, "content": f"{role} {at}", **({"tool_call_id": "1"} if role == "tool" else {})}


@given(st.lists(_ROLES, max_size=12), st.integers(1, 6), st.integers(0, 60))
def test_what_is_left_of_a_history_is_its_end_with_all_instructions_and_no_result_without_its_call(
    roles: list[str], turns: int, tokens: int
) -> None:
    messages = [*(_message(role, at) for at, role in enumerate(roles)), {"role": "user", "content": "Hi"}]
    asked = request(messages)
    kept_history(asked, turns=turns, max_tokens=tokens)
    left = asked.body["messages"]
    kept = [at for at, one in enumerate(messages) if any(one is other for other in left)]
    assert [messages[at] for at in kept] == left
    assert kept[-1] == len(messages) - 1
    assert {at for at, one in enumerate(messages) if one["role"] == "system"} <= set(kept)
    calls = [at for at, one in enumerate(messages) if one.get("tool_calls")]
    for result in (at for at in kept if messages[at]["role"] == "tool"):
        assert not any(at < result for at in calls) or any(at < result for at in calls if at in kept)


async def test_a_huge_turn_costs_no_more_to_choose_by_than_its_end() -> None:
    house = House(RecallSettings(max_window_tokens=20), embedder=Meanings())
    for text in ("I play tennis.", "The office is far away from here.", "I cook on Sundays."):
        await house.ask(text, conversation_id="c0")
    await house.ask("x " * 1_000_000 + "When do I run?", memory="facts+windows")
    assert "tennis" in _block(house)
