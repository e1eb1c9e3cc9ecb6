import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.memory.scrubbing import Scrubber

_SECRETS_ONLY = Scrubber(personal=False)
_ALL = Scrubber(personal=True)


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-Zx81kdLq09aaPPq2",
        "fk-0123456789abcdef",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOHcBrzzqy",
        "AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "4111 1111 1111 1111",
        "5555-5555-5555-4444",
        "DE89 3704 0044 0532 0130 00",
    ],
)
def test_a_secret_is_taken_out_wherever_it_stands(secret: str) -> None:
    for text in (secret, f"it is {secret}, right?", f"({secret})", f"a\n{secret}\nb"):
        scrubbed = _SECRETS_ONLY(text)
        assert secret not in scrubbed.text
        assert scrubbed.found == {"secret"}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("my password is hunter2", "my password is [secret]"),
        ("Password: tr0ub4dor&3 and more", "Password: [secret] and more"),
        ("api_key=abc123def", "api_key=[secret]"),
        ("mein Passwort ist Geheim99", "mein Passwort ist [secret]"),
        ("postgres://bob:hunter2@db/x", "[secret]db/x"),
        ("the PIN is 4711", "the PIN is [secret]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----", "[secret]"),
    ],
)
def test_a_password_that_is_told_in_words_is_taken_out(text: str, left: str) -> None:
    assert _SECRETS_ONLY(text).text == left


@pytest.mark.parametrize(
    "text",
    [
        "my password is wrong",
        "the token was invalid",
        "order 550e8400-e29b-41d4-a716-446655440000",
        "/usr/local/lib/python3.11/site-packages/numpy",
        "on 2026-11-28 at 10:30:22 we had 1234567 users",
        "supercalifragilisticexpialidocious",
        "the number 4111 1111 1111 1112 fails the check",
        "kubernetes-deployment-controller-manager",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert _SECRETS_ONLY(text).text == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("write to ann.lee+x@mail.example.org", "write to [email]"),
        ("call +49 170 1234567 today", "call [phone] today"),
        ("I live at 12 Main Street", "I live at [address]"),
        ("in der Hauptstraße 12a", "in der [address]"),
        ("my number is 078-05-1120", "my number is [number]"),
        ("passport number C01X00T47", "[number]"),
    ],
)
def test_what_is_personal_goes_only_where_the_setting_says_so(text: str, left: str) -> None:
    assert _ALL(text).text == left
    assert _ALL(text).found == {"personal"}
    assert _SECRETS_ONLY(text).text == text


@pytest.mark.parametrize("text", ["on 2026-11-28", "28.11.2026", "version 3.11.14", "85,000 euros"])
def test_dates_and_sums_are_not_telephone_numbers(text: str) -> None:
    assert _ALL(text).text == text


@given(st.text(max_size=400))
def test_what_was_scrubbed_once_stays_as_it_is(text: str) -> None:
    once = _ALL(text).text
    assert _ALL(once).text == once


@pytest.mark.timeout(30)  # a pattern that takes quadratic time takes minutes
@pytest.mark.parametrize("piece", ["1 ", "a1/", "-", "aB3", "@a.", "12 Aa ", "eyJaaaaaaaa.", "pass word is ", "://:@", "+1 (", "A1 "])
def test_no_text_takes_longer_than_in_proportion(piece: str) -> None:
    assert _ALL((piece * 100_000)[:100_000]).text
