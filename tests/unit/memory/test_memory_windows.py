"""The choice of turns: what it finds, and that it keeps within its budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farthing.memory.windows import Said, all_of, best, relevance, render
from farthing.memory.words import words_of
from farthing.pipeline.tokens import count_text


def _said(text: str, *, speaker: str = "user", session: str = "2026-01-01", vector: list[float] | None = None) -> Said:
    return Said(speaker=speaker, text=text, session=session, vector=vector)


TALK = [
    _said("Hello there, how are you?", speaker="Ann"),
    _said("Fine. I painted a sunrise over the lake last week.", speaker="Bob"),
    _said("Lovely. I ran ten kilometres on Sunday.", speaker="Ann"),
    _said("The trains were late again.", speaker="Bob", session="2026-02-01"),
    _said("I bought a bicycle.", speaker="Ann", session="2026-02-01"),
]


def test_a_turn_with_the_words_of_the_question_comes_first() -> None:
    assert best(TALK, "Who was painting the sunrise?", None, max_tokens=22) == [1]


def test_a_turn_that_means_the_same_is_found_without_a_word_in_common() -> None:
    turns = [
        _said("aaa", vector=[1.0, 0.0]),
        _said("bbb", vector=[0.0, 1.0], session="b"),
        _said("ccc", vector=[0.9, -0.4], session="c"),
    ]
    scores = relevance(turns, "zzz", [0.0, 1.0])
    assert scores.argmax() == 1


def test_who_is_named_in_the_question_answers_it() -> None:
    turns = [_said("I like tea.", speaker="Ann", session="a"), _said("I like tea.", speaker="Bob", session="b")]
    scores = relevance(turns, "What does Bob like?", None)
    assert scores[1] > scores[0]


def test_a_neighbour_of_a_good_turn_is_better_than_a_stranger() -> None:
    turns = [_said("yes"), _said("the lighthouse keeper"), _said("no"), *(_said("no", session=f"s{at}") for at in range(4))]
    scores = relevance(turns, "lighthouse keeper", None)
    assert min(scores[0], scores[2]) > max(scores[3:])


def test_the_head_of_a_session_is_said_once() -> None:
    assert render(TALK, [0, 1, 4]) == [
        "[2026-01-01]",
        "Ann: Hello there, how are you?",
        "Bob: Fine. I painted a sunrise over the lake last week.",
        "[2026-02-01]",
        "Ann: I bought a bicycle.",
    ]


def test_vectors_of_another_length_count_as_none() -> None:
    turns = [_said("aaa", vector=[1.0, 0.0, 0.0]), _said("bbb", session="b"), _said("tea", session="c")]
    assert relevance(turns, "tea", [1.0, 0.0]).argmax() == 2


def test_nothing_to_choose_from_is_nothing() -> None:
    assert best([], "What?", None, max_tokens=100) == []
    assert best(TALK, "", None, max_tokens=0) == []


def test_bytes_and_floats_are_read_alike() -> None:
    floats = [_said("x", vector=[127.0, 0.0]), _said("y", vector=[0.0, 127.0], session="b")]
    packed = [Said(speaker="user", text=one.text, session=one.session, vector=bytes(map(int, one.vector or ()))) for one in floats]
    assert relevance(floats, "q", [1.0, 0.0]).tolist() == relevance(packed, "q", bytes([127, 0])).tolist()


@given(
    st.lists(
        st.builds(Said, speaker=st.text(max_size=5), text=st.text(max_size=60), session=st.sampled_from(["a", "bb", "ccc"])),
        max_size=12,
    ),
    st.text(max_size=40),
    st.integers(0, 80),
)
def test_the_context_is_never_larger_than_its_budget(turns: list[Said], question: str, most: int) -> None:
    turns = sorted(turns, key=lambda turn: turn.session)
    places = best(turns, question, None, max_tokens=most)
    assert places == sorted(set(places))
    assert count_text("\n".join(render(turns, places))) <= most
    assert not all_of(turns, max_tokens=most) or places == list(range(len(turns)))


def test_words_meet_without_their_endings() -> None:
    assert words_of("Painted paintings, paints!") == ["paint"] * 3
    assert words_of("running stories") == ["run", "story"]
    assert words_of("What is it to you?") == []


def test_scripts_without_spaces_are_read_by_twos() -> None:
    assert words_of("日本語 x") == ["日本", "本語", "x"]
    assert words_of("猫") == ["猫"]
