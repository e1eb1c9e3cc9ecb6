from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.reading import MOST_CHARACTERS, NAME, NEGATION, Reading, pack, read, unpack
from farthing.testing.words import WordEmbedder

EMBEDDER = WordEmbedder()


def reading(text: str) -> Reading:
    return read(text, EMBEDDER.encoded(text))


AWKWARD = [
    "",
    "   \n\t ",
    "a",
    "?",
    "🙂",
    "🙂👍🎉",
    "naïve café 東京の天気 résumé",
    "مرحبا كيف حالك",
    "\u0397ow do \u0399 reset my \u0440\u0430ssword?",  # homoglyphs
    "null \x00 byte",
    "half a pair \ud83d here",
    "e\u0301" * 5,
    "ﷺ ½ ² Ⅷ ٣",
    "--- ``` ```",
    "word " * 100_000,
]


@pytest.mark.parametrize("text", AWKWARD, ids=range(len(AWKWARD)))
def test_awkward_texts_are_read_packed_and_unpacked(text: str) -> None:
    found = reading(text)
    assert len(found.text) <= MOST_CHARACTERS
    assert len(found.words) == len(found.rarity) == len(found.marks)
    assert unpack(pack(found)) == found


@given(st.text(st.characters(), max_size=200))
def test_unpacking_gives_back_what_was_packed(text: str) -> None:
    found = reading(text)
    assert unpack(pack(found)) == found
    assert pack(unpack(pack(found))) == pack(found)


def test_a_long_text_is_cut_and_says_so() -> None:
    assert reading("word " * 300).cut
    assert not reading("word " * 200).cut
    assert read("x" * (MOST_CHARACTERS + 1), WordEmbedder().encoded("x" * (MOST_CHARACTERS + 1))).cut


def test_twelve_words_take_at_most_450_bytes() -> None:
    text = "How can I learn to play the guitar well at home alone?"
    assert len(reading(text).words) == 12
    assert len(pack(reading(text))) <= 450


def test_what_is_no_reading_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        unpack(b"\x93\x01\x02\x03")


@pytest.mark.parametrize(
    ("text", "quantities"),
    [
        ("within 2 weeks", ("2|week",)),
        ("within two weeks", ("2|week",)),
        ("below 10,000 rupees", ("10000|inr",)),
        ("below ₹10000", ("10000|inr",)),
        ("a phone under 15k", ("15000|",)),
        ("3 million people", ("3000000|",)),
        ("at 3:30pm on Monday", ("3:30pm", "mon")),
        ("a 4G phone with 6GB", ("4|g", "6|gb")),
        ("no number at all", ()),
    ],
)
def test_quantities_are_read_with_their_units(text: str, quantities: tuple[str, ...]) -> None:
    assert reading(text).quantities == quantities


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("How do I sort a list?", "how"),
        ("How many people live there?", "how many"),
        ("In Python, how do I sort?", "how"),
        ("Is it safe?", "polar"),
        ("password reset", "tell"),
        ("", "tell"),
    ],
)
def test_what_is_asked_for_is_read(text: str, ask: str) -> None:
    assert reading(text).ask == ask


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How do I reset my password?", "en"),
        ("¿Cómo puedo cambiar mi contraseña?", "es"),
        ("Wie kann ich mein Passwort ändern?", "de"),
        ("Как мне сменить пароль?", "cyrillic"),
        ("密码怎么重置", "chinese"),
        ("ok", "?"),
    ],
)
def test_the_language_is_told(text: str, language: str) -> None:
    assert reading(text).language == language


def test_names_are_capitals_inside_a_sentence_that_is_no_headline() -> None:
    def names(text: str) -> list[str]:
        found = reading(text)
        return [word for word, mark in zip(found.words, found.marks, strict=True) if mark & NAME]

    assert names("What did Stanford say? Nothing from Harvard.") == ["stanford", "harvard"]
    assert names("What Did Stanford Say About This") == []
    assert names("what did stanford say") == []


def test_negations_are_marked() -> None:
    found = reading("I don't know, it isn't there, is it not?")
    assert [word for word, mark in zip(found.words, found.marks, strict=True) if mark & NEGATION] == ["don't", "isn't", "not"]


def test_code_and_wanted_forms_are_read() -> None:
    assert reading("What does `np.dot` do, and camelCase or snake_case or /etc/passwd?").codes == (
        "/etc/passwd",
        "camelCase",
        "np.dot",
        "snake_case",
    )
    assert reading("List the planets as JSON in French, in 3 sentences").forms == ("3 sentence", "in french", "json")
