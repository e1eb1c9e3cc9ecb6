"""Regular expressions from outside: what they find, what is refused, and that no one of them is slow."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.patterns import LinearPattern, WrongPattern, cost


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("b", "abc", True),
        ("^b", "abc", False),
        (r"^\d{3}-\d{4}$", "555-0199", True),
        (r"(?i)straße", "STRASSE STRAßE", True),
        (r"\p{Greek}", "\u03c9", True),
        ("", "", True),
        (".", "\n", False),
        ("a", "\ud800", False),
    ],
)
def test_a_pattern_is_found_anywhere(pattern: str, text: str, found: bool) -> None:  # noqa: FBT001 - a table
    assert LinearPattern(pattern).found(text) is found


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "cannot be read: unclosed group"),
        ("[", "unclosed character class"),
        ("\\", "incomplete escape"),
        ("(?=a)b", "look-around or back references"),
        (r"(a)\1", "look-around or back references"),
        ("a{2001}", "worth 2001 states, 2000 may be"),
        ("(((a{99}){99}){99}){99}", "too much work"),
        (r"\w{300}", "worth 3000 states"),
        ("a{99999999999999999999}", "too much work"),
    ],
)
def test_what_is_refused_says_why(pattern: str, said: str) -> None:
    with pytest.raises(WrongPattern) as raised:
        LinearPattern(pattern)
    assert said in str(raised.value)


def test_without_a_bound_the_engine_has_its_own() -> None:
    assert LinearPattern("a{3000}", max_cost=None).found("a" * 3000)
    with pytest.raises(WrongPattern, match="too large"):
        LinearPattern(r"\w{5000}", max_cost=None)


@pytest.mark.parametrize(
    ("pattern", "states"),
    [
        ("abc", 3),
        ("a|b", 2),
        ("a{3}", 3),
        ("a{3,}", 3),
        ("a{2,5}", 5),
        ("(ab){4}", 8),
        ("((a{2}b){3}c){2}", 20),
        ("[abc]{10}", 20),
        (r"\d{4}", 40),
        (r"\{3}", 3),
        ("[{3}]", 2),
        ("a{0}", 1),
    ],
)
def test_the_worth_of_a_pattern_counts_its_repetitions(pattern: str, states: int) -> None:
    assert cost(pattern) == states


@given(st.text(alphabet="ab(){}[]|*+?.\\,0123d^$", max_size=40))
def test_any_pattern_is_read_or_refused_and_has_a_worth(pattern: str) -> None:
    assert cost(pattern) >= 0
    with contextlib.suppress(WrongPattern):
        LinearPattern(pattern).found("abba")


@given(
    st.recursive(
        st.sampled_from(["a", "b", "[ab]", "."]),
        lambda inner: (
            st.tuples(inner, st.sampled_from(["*", "+", "?", "{0,3}", "{2}"])).map(lambda two: f"(?:{two[0]}){two[1]}")
            | st.tuples(inner, inner).map("".join)
            | st.tuples(inner, inner).map("|".join)
        ),
        max_leaves=6,
    ),
    st.text(alphabet="abc", max_size=12),
)
def test_it_finds_what_python_finds(pattern: str, text: str) -> None:
    assert LinearPattern(pattern).found(text) is (re.search(pattern, text) is not None)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|aa)+$", "(a*)*b", "(?:a?){500}a{500}b", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_patterns_that_python_never_ends_with_end(pattern: str) -> None:
    assert not LinearPattern(pattern).found("a" * 50_000 + "!")
