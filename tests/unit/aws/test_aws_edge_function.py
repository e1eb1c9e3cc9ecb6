"""The function at the edge, under Node, and the codec in Python, against the same cases."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import edge_cases
import pytest

from farthing.aws.edge_codec import answer_key, answer_of, decode, encode, version_key
from farthing.testing.edge_function import played

_FUNCTION = Path(__file__).parents[3] / "deploy" / "aws" / "edge" / "function.js"
_CASES: list[dict[str, Any]] = json.loads(edge_cases.FILE.read_text())
_MOST_BYTES = 10 * 1024


@pytest.fixture(scope="module")
def results() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in played(_FUNCTION, _CASES)}


def test_the_file_of_cases_is_what_the_codec_writes() -> None:
    assert edge_cases.cases() == _CASES, "run tests/unit/aws/edge_cases.py"


@pytest.mark.parametrize("case", _CASES, ids=lambda case: case["name"])
def test_the_function_answers_or_forwards(case: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    got = results[case["name"]]
    out = got["out"]
    if case["expect"] in {"answer", "known"}:
        headers = {name: one["value"] for name, one in out["headers"].items()}
        kind = headers.pop("content-type", None)
        assert headers == {
            "cache-control": "private, no-cache",
            "etag": f'"{edge_cases.REQUEST.hex}"',
            "age": "0",
            "x-farthing-source": "edge",
            "x-farthing-model": "fast",
            "x-farthing-request-id": str(edge_cases.REQUEST),
        }
        if case["expect"] == "known":
            assert (out["statusCode"], "body" in out) == (304, False)
        else:
            assert (out["statusCode"], out["body"], kind) == (200, {"encoding": "text", "data": case["given"]}, case["kind"])
        return
    assert "statusCode" not in out, "the origin has the word"
    if case["expect"] == "s3":
        assert (out["uri"], out["querystring"], got["origin"]) == ("/" + case["object"], {}, "answers")
        return
    assert (out["uri"], out["method"], got["origin"]) == (case["request"]["uri"], case["request"]["method"], None)
    assert "x-farthing-user" not in out["headers"]
    assert out["querystring"].get("user", {}).get("value") == case["user"]


@pytest.mark.parametrize("case", [case for case in _CASES if case["expect"] in {"answer", "s3"}], ids=lambda case: case["name"])
def test_the_codec_reads_what_the_function_reads(case: dict[str, Any]) -> None:
    (told,) = case["answers"]
    assert told["key"] == answer_key(told["tenant"], told["user"], told["action"])
    head, given = decode(case["values"][told["key"]])
    assert head.p == case["object"]
    for state, version in head.v.items():
        assert int(case["values"].get(version_key(told["tenant"], state), "0")) == version
    if head.p is None:
        assert given == case["given"]
        found = answer_of(told["tenant"], told["user"], told["action"], head, given.encode())
        assert encode(found).value == case["values"][told["key"]]


def test_the_function_stays_within_what_cloudfront_runs(results: dict[str, dict[str, Any]]) -> None:
    text = _FUNCTION.read_text()
    assert len(text.encode()) <= _MOST_BYTES
    imports = [line for line in text.splitlines() if line.startswith("import")]
    assert imports == ["import cf from 'cloudfront';", "import crypto from 'crypto';"], "there is nothing else"
    assert max(one["reads"] for one in results.values()) <= 5, "the key, the answer, and what it hangs on"


def test_the_template_holds_the_function_as_it_is() -> None:
    template = (_FUNCTION.parent / "template.yaml").read_text()
    assert textwrap.indent(_FUNCTION.read_text(), " " * 8) in template
