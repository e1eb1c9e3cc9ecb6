from __future__ import annotations

import inspect
import re

import pytest

from farthing import errors
from farthing.errors import FarthingError, SettingsError, UpstreamError, UpstreamRejected

CLASSES = [thing for _, thing in inspect.getmembers(errors, inspect.isclass) if issubclass(thing, FarthingError)]
LINE = re.compile(r"^    (?P<stem>[│├└─ ]*)(?P<name>[A-Z]\w+)(?: +(?P<rest>.*))?$")


def drawn() -> dict[str, tuple[int, str]]:
    """Name → (depth, the rest of its line) of the tree in the docstring."""
    found = {}
    for line in (errors.__doc__ or "").splitlines():
        match = LINE.match(line)
        if match:
            found[match["name"]] = (len(match["stem"]) // 4, match["rest"] or "")
    return found


def parents() -> dict[str, str | None]:
    """Name → the name above it in the drawing."""
    above: dict[int, str] = {}
    found: dict[str, str | None] = {}
    for name, (depth, _) in drawn().items():
        found[name] = above.get(depth - 1)
        above[depth] = name
    return found


def test_the_drawing_has_every_error_and_no_other() -> None:
    assert set(drawn()) == {one.__name__ for one in CLASSES}


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: one.__name__)
def test_the_drawing_shows_who_inherits_from_whom(one: type[FarthingError]) -> None:
    base = one.__bases__[0].__name__
    assert parents()[one.__name__] == (None if base == "Exception" else base)


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: one.__name__)
def test_the_drawing_shows_status_and_code(one: type[FarthingError]) -> None:
    rest = drawn()[one.__name__][1]
    numbers = re.match(r"(\d{3})  (\w+)", rest)
    if numbers:
        assert (str(one.status), {one.code, one.type} & {numbers[2]}) == (numbers[1], {numbers[2]})


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: one.__name__)
def test_every_error_has_what_the_wire_needs(one: type[FarthingError]) -> None:
    assert 400 <= one.status < 600
    assert re.fullmatch(r"[a-z_]+", one.type)
    assert re.fullmatch(r"[a-z_]+", one.code)
    assert one.retry in {None, True, False}
    assert inspect.getdoc(one)
    assert "code" in vars(one) or one.__bases__[0] is not FarthingError, "an error of its own has a code of its own"
    status, body = one("what was wrong").wire()
    assert status == one.status
    assert body == {"message": "what was wrong", "type": one.type, "param": None, "code": one.code}


def test_a_client_is_told_to_retry_what_a_retry_can_help_only() -> None:
    helped = {one.__name__ for one in CLASSES if one.retry}
    assert helped == {
        "BodyTimeout",
        "RateLimited",
        "BudgetUnverified",
        "Overloaded",
        "Unavailable",
        "UpstreamError",
        "UpstreamRateLimited",
        "UpstreamUnavailable",
        "UpstreamMalformed",
        "UpstreamTimeout",
    }


def test_an_error_names_the_field_and_when_to_come_back() -> None:
    error = FarthingError("wrong", param="model", retry_after_s=1.5)
    assert (error.wire()[1]["param"], error.retry_after_s) == ("model", 1.5)


def test_a_providers_own_words_are_handed_on() -> None:
    error = UpstreamError("busy", upstream_status=529, upstream_type="overloaded_error", upstream_code="capacity")
    assert error.wire() == (502, {"message": "busy", "type": "overloaded_error", "param": None, "code": "capacity"})


@pytest.mark.parametrize(("upstream", "status"), [(None, 502), (400, 400), (404, 404), (422, 422)])
def test_a_rejection_keeps_the_providers_status(upstream: int | None, status: int) -> None:
    assert UpstreamRejected("no", upstream_status=upstream).wire()[0] == status


def test_an_error_reads_as_its_message() -> None:
    assert str(SettingsError("server.prot: there is no such setting")) == "server.prot: there is no such setting"
