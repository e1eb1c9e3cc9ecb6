from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.evidence import NAMES, Evidence, compare
from farthing.caching.reading import read
from farthing.testing.words import WordEmbedder

EMBEDDER = WordEmbedder()


def evidence(one: str, other: str, similarity: float = 0.97) -> Evidence:
    return compare(read(one, EMBEDDER.encoded(one)), read(other, EMBEDDER.encoded(other)), similarity)


FORBIDDEN = [
    ("numbers, dates or amounts differ", "What is the best phone under 15000?", "What is the best phone under 20000?"),
    ("numbers, dates or amounts differ", "Can I pay in 2 weeks?", "Can I pay in 2 months?"),
    ("numbers, dates or amounts differ", "Are you open on Sunday?", "Are you open on Monday?"),
    ("numbers, dates or amounts differ", "What are the best movies of 2016?", "What are the best movies?"),
    ("code or identifiers differ", "What does os.path.join() do?", "What does os.path.split() do?"),
    ("code or identifiers differ", "What does `a` mean?", "What does `b` mean?"),
    ("the requested format, length or language differs", "Give me the planets as JSON", "Give me the planets as XML"),
    ("the requested format, length or language differs", "Explain gravity in German", "Explain gravity in French"),
    ("the requested format, length or language differs", "Explain gravity briefly", "Explain gravity"),
    ("roles are exchanged", "flights from Oslo to Rome", "flights from Rome to Oslo"),
    ("roles are exchanged", "Is Python better than Java?", "Is Java better than Python?"),
    ("roles are exchanged", "Do Mexican women like Asian men?", "Do Asian women like Mexican men?"),
    ("roles are exchanged", "How do I convert Celsius to Fahrenheit?", "How do I convert Fahrenheit to Celsius?"),
    ("one is negated", "Should I tell her?", "Should I not tell her?"),
    ("one is negated", "Why do cats like water?", "Why don't cats like water?"),
    ("they ask for opposites", "How do I enable notifications?", "How do I disable notifications?"),
    ("they ask for opposites", "What is the highest score?", "What is the lowest score?"),
    ("names differ", "How can I get into Stanford?", "How can I get into Harvard?"),
    ("languages differ", "How do I sort a list?", "¿Cómo puedo cambiar mi contraseña?"),
    ("a language that the embedder does not read", "Как мне сменить пароль?", "Как мне узнать пароль?"),
    ("no words to compare", "?", "How are you?"),
    ("no words to compare", "", ""),
    ("too long to be read whole", "word " * 300, "word " * 300),
]


@pytest.mark.parametrize(("veto", "one", "other"), FORBIDDEN)
def test_a_guard_forbids_the_hit_both_ways(veto: str, one: str, other: str) -> None:
    assert evidence(one, other).veto == veto
    assert evidence(other, one).veto == veto


ALLOWED = [
    ("What is the difference between stocks and bonds?", "What is the difference between bonds and stocks?"),
    ("Which is better, iPhone or Android?", "Which is better, Android or iPhone?"),
    ("In Python, how do I sort a list?", "How do I sort a list in Python?"),
    ("What is the best phone under 15000?", "What's the best phone below 15,000?"),
    ("Can I pay within two weeks?", "Can I pay within 2 weeks?"),
    ("How do I reset my password?", "Forgot password help, please"),
    ("How can I get into stanford?", "How do I get into Stanford?"),
    ("Is Down\u2019s syndrome hereditary?", "Is Down's syndrome hereditary?"),
]


@pytest.mark.parametrize(("one", "other"), ALLOWED)
def test_other_words_for_the_same_pass_the_guards(one: str, other: str) -> None:
    assert evidence(one, other).veto is None
    assert evidence(other, one).veto is None


TEXTS = st.one_of(
    st.text(st.characters(), max_size=80),
    st.lists(
        st.sampled_from(
            [
                "how",
                "do",
                "I",
                "not",
                "reset",
                "my",
                "the",
                "Oslo",
                "Rome",
                "from",
                "to",
                "5",
                "weeks",
                "json",
                "in",
                "password",
                "best",
                "worst",
                "`x`",
                "東",
                "é",
                "🙂",
            ]
        ),
        max_size=12,
    ).map(" ".join),
)


@given(TEXTS, TEXTS)
def test_evidence_does_not_depend_on_which_question_was_asked(one: str, other: str) -> None:
    there, back = evidence(one, other), evidence(other, one)
    assert (there.veto is None, there.identical) == (back.veto is None, back.identical)
    assert len(there.values) in {0, len(NAMES)}
    if there.veto is None and not there.identical:
        assert there.named["similarity"] == back.named["similarity"]
        assert there.named["all_covered_least"] == pytest.approx(back.named["all_covered_least"])
        assert there.named["length_ratio"] == back.named["length_ratio"]


@given(TEXTS)
def test_a_question_is_never_held_against_itself(text: str) -> None:
    found = evidence(text, text)
    assert found.identical or found.veto == "no words to compare"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 5-3?", "What is 5+3?"),
        ("What is 5 - 3?", "What is 5 3?"),
        ("a != b", "a = b"),
        ("What is C?", "What is C++?"),
        ("a{b}", "a[b]"),
    ],
)
def test_signs_between_equal_words_keep_questions_apart(one: str, other: str) -> None:
    assert not evidence(one, other).identical


@pytest.mark.parametrize(
    ("one", "other"), [("How do I pay?", "how do i pay"), ("Don\u2019t go!", "Don't go"), ("\u201cHello\u201d, he said", "hello he said")]
)
def test_case_and_punctuation_do_not(one: str, other: str) -> None:
    assert evidence(one, other).identical


def test_a_wish_in_other_words_is_seen_and_another_wish_is_not() -> None:
    assert evidence("How do I reset my password?", "Forgot password help, please").named["wish"] == 1
    assert evidence("Where is the password reset link?", "How do I reset my password?").named["wish"] == 1
    assert evidence("How do I reset my password?", "How do I change my password?").named["wish"] == 0
    assert evidence("How do I forget my past?", "How do I remember my past?").named["wish"] == 0
    assert evidence("How do I reset my password?", "How do I reset my entire database?").named["wish"] == 0
