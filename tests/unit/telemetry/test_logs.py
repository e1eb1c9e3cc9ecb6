from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing import logs
from farthing.types import Source, new_id

from .conftest import MakeEntry, MakeRequest

SECRETS = (
    "fk-abcdef0123456789",
    "sk-proj-abcdef0123456789",
    "Bearer abc.def-ghi",
    "bearer abcdefghij",
    "AKIAIOSFODNN7EXAMPLE",
    "AIzaSyA1234567890abcdefghijk",
    "ghp_abcdefghijklmnopqrstuvwxyz",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "postgresql://farthing:hunter2@db:5432/x",
    "api_key=hunter22",
    'password": "hunter22"',
    "client_secret: hunter22",
)
HIDDEN = ("abcdef", "abc.def", "IOSFODNN7", "SyA123", "abcdefghij", "eyJzdWIi", "hunter2")


def line_of(message: str, *args: object, exc_info: Any = None, **extra: object) -> dict[str, Any]:
    record = logging.getLogger("farthing.test").makeRecord("farthing.test", logging.INFO, "f", 1, message, args, exc_info, extra=extra)
    text = logs.JsonLines().format(record)
    assert len(text.splitlines()) == 1
    decoded = json.loads(text)
    assert isinstance(decoded, dict)
    return decoded


def test_a_line_has_time_level_logger_message_and_extras() -> None:
    line = line_of("hello %s", "world", model="fast", tokens=3, ratio=0.5, missing=None)
    assert line.pop("time").endswith("Z")
    expected = {"level": "info", "logger": "farthing.test", "message": "hello world"}
    assert line == {**expected, "model": "fast", "tokens": 3, "ratio": 0.5, "missing": None}


def test_the_request_of_the_running_task_is_named() -> None:
    serving = new_id()
    token = logs.REQUEST_ID.set(serving)
    try:
        assert line_of("x")["request_id"] == str(serving)
        assert line_of("x", request_id="request-2")["request_id"] == "request-2"
    finally:
        logs.REQUEST_ID.reset(token)
    assert "request_id" not in line_of("x")


@given(st.text(alphabet=st.characters()))
def test_no_text_makes_a_second_line_or_steers_a_terminal(text: str) -> None:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "%s", "args": (text,), "field": text})
    line = logs.JsonLines().format(record)
    assert len((line + "x").splitlines()) == 1
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in line)
    line.encode()
    json.loads(line)


def test_a_forged_line_stays_inside_its_message() -> None:
    forged = 'x\n{"level": "info", "message": "all is well"}\r\x1b[2J\u2028\u202e'
    assert line_of(forged)["message"] == forged


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_key_is_masked_wherever_it_is(secret: str) -> None:
    try:
        raise ValueError(f"the provider says {secret} is wrong")
    except ValueError:
        line = line_of(f"calling with {secret} now", header=secret, nested={"header": secret}, exc_info=sys.exc_info())
    text = json.dumps(line)
    assert not [hidden for hidden in HIDDEN if hidden in text], text
    assert text.count("[masked]") >= 4
    assert "ValueError" in line["exception"]


def test_ordinary_text_is_left_alone() -> None:
    text = "task-force of 3 risk-averse people asked for max_tokens 5 at https://api.openai.com/v1 (key management, secret sauce)"
    assert logs.mask(text) == text


@given(st.text() | st.from_regex("|".join(pattern.pattern for pattern, _ in logs._SECRETS)))
def test_a_text_with_a_secret_always_has_a_hint_of_it(text: str) -> None:
    assert logs.mask(text) == text or any(hint in text.lower() for hint in logs._HINTS)


def test_a_key_cut_by_the_end_of_a_long_text_does_not_show() -> None:
    line = line_of("x" * 3_990 + " fk-abcdef0123456789")
    assert "abcdef" not in line["message"]
    assert len(line["message"]) < 4_100


def test_of_a_long_traceback_the_end_is_kept() -> None:
    try:
        raise ValueError("y" * 50_000 + " the point")
    except ValueError:
        line = line_of("x", exc_info=sys.exc_info())
    assert line["exception"].rstrip().endswith("the point")
    assert len(line["exception"]) < 20_000


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError


def test_what_cannot_be_formatted_does_not_lose_the_line() -> None:
    assert "arguments do not fit" in line_of("%s and %s", "one")["message"]
    assert line_of("x", odd=Unspeakable(), big=10**30, nan=float("nan")) | {"time": ""} == {
        "time": "",
        "level": "info",
        "logger": "farthing.test",
        "message": "x",
        "odd": "<Unspeakable>",
        "big": str(10**30),
        "nan": "nan",
    }


def test_an_extra_cannot_pose_as_level_or_time() -> None:
    line = line_of("x", level="critical", time="yesterday")
    assert line["level"] == "info"
    assert line["time"] != "yesterday"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


def test_a_reader_that_does_not_read_costs_lines_not_time(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = logs.LineHandler(writing)
    for number in range(2_000):
        handler.handle(logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "line %d", "args": (number,)}))
    assert 0 < handler.dropped < 2_000
    dropped = handler.dropped
    first = os.read(reading, 1 << 20)
    handler.handle(logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "after"}))
    lines = [json.loads(line)["message"] for line in (first + os.read(reading, 1 << 20)).splitlines()]
    assert lines[-2:] == [f"{dropped} log lines were dropped: their reader is behind", "after"]
    assert len(lines) == 2_000 - dropped + 2


def test_a_long_line_that_is_cut_off_leaves_the_next_one_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    handler = logs.LineHandler(writing)
    for _ in range(6):
        handler.handle(logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "x", "stack_info": "y" * 15_000}))
    assert handler.dropped
    first = os.read(reading, 1 << 20)
    handler.handle(logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "after"}))
    last = (first + os.read(reading, 1 << 20)).splitlines()[-1]
    assert json.loads(last)["message"] == "after"


def test_a_reader_that_is_gone_raises_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    handler = logs.LineHandler(writing)
    handler.handle(logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "x"}))
    assert handler.dropped == 1
    os.close(writing)


def test_a_process_set_up_so_speaks_only_json_on_stderr() -> None:
    code = """
import logging, warnings
from farthing import logs
logs.setup("info")
logging.getLogger("farthing.x").info("ours")
logging.getLogger("farthing.x").debug("not said")
logging.getLogger("library").info("not said")
logging.getLogger("library").warning("theirs")
logging.getLogger("uvicorn.access").info("not said")
warnings.warn("old-fashioned")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("farthing.x").exception("it broke: Bearer %s", "abcdef0123456789")
"""
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], check=True, capture_output=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["message"].split("\n")[0] for line in lines[:2]] == ["ours", "theirs"]
    assert "old-fashioned" in lines[2]["message"]
    assert lines[3]["message"] == "it broke: Bearer [masked]"
    assert "ZeroDivisionError" in lines[3]["exception"]
    assert done.stdout == b""


def test_the_request_log_has_one_line_a_request_and_no_prompt(
    make_request: MakeRequest, make_entry: MakeEntry, caplog: pytest.LogCaptureFixture
) -> None:
    request = make_request()
    observe = logs.RequestLog().observe
    with caplog.at_level(logging.INFO, logger="farthing.requests"):
        observe(make_entry(request, final=False, error="upstream_timeout", status=504), request)
        observe(make_entry(request, attempt=2, error="the secret plan failed", source=Source.NONE, status=400), request)
    (record,) = caplog.records
    line = json.loads(logs.JsonLines().format(record))
    assert line["request_id"] == str(request.id)
    assert (line["tenant"], line["model"], line["source"], line["status"], line["attempt"]) == ("acme", "fast", "none", 400, 2)
    assert line["error"] == "_OTHER"
    assert "secret plan" not in json.dumps(line)
