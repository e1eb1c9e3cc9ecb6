"""A router that learns: trained, promoted, asked, told how good it was, rolled back, through the command line, the SDK and the doors."""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import scripted
from inside import NO_TLS, ask, both_workers, eventually, new_key, query

from farthing.testing.installation import Installation
from farthing.testing.replies import completion
from farthing.testing.upstream import ScriptedUpstream

_HARD = ("Compute the integral of", "What is the integral over", "Solve this integral with", "Which integral equals")
_EASY = ("What is the capital of", "Name a river in", "Who is the president of", "When does summer begin in")
_OF = ("France", "Peru", "Chile", "Norway", "Kenya", "Japan", "Spain", "Egypt", "India", "Cuba")


@pytest.fixture(scope="module")
def school(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    """Two workers. `auto` answers by what was learnt, `strict` by a cascade whose check wants the word "good" in answers."""
    check = {"kind": "pattern", "must_match": "good"}
    learned = {"quality": 0.95, "embed_timeout_s": 5}
    routers = {
        "auto": {"models": ["fast", "strong"], "learned": learned},
        "strict": {"models": ["fast", "strong"], "otherwise": "cascade", "cascade": {"checks": [check]}, "learned": learned},
    }
    settings = scripted(upstream, routing={"routers": routers}, cache={"exact": {"enabled": False}}, ledger={"flush_interval_s": 0.02})
    with Installation(folders / "school", settings, workers=2) as running:
        eventually(lambda: all(running.get("/readyz")[0] == 200 for _ in range(20)), "both workers, with their embedders", 90)
        yield running


@pytest.fixture(scope="module")
def rows(folders: Path) -> Path:
    """Prompts with an integral in them are for the strong model."""
    path = folders / "rows.jsonl"
    texts = [(f"{start} {a} and {b}?", start in _HARD) for start in (*_HARD, *_EASY) for a, b in itertools.combinations(_OF, 2)]
    path.write_text("".join(json.dumps({"prompt": text, "weak": int(not hard), "strong": 1}) + "\n" for text, hard in texts))
    return path


def _farthing(school: Installation, *arguments: str, refused: str | None = None) -> Any:
    done = school.cli("route", *arguments, check=False)
    if refused is not None:
        assert done.returncode == 1, done
        assert refused in done.stderr
        assert done.stderr.count("\n") == 1
        return None
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) if "--json" in arguments else done.stdout


def _models(school: Installation, key: str, start: str) -> set[str]:
    """What answers such prompts: several, so that each worker is asked."""
    answers = [ask(school, key, f"{start} {b} and {a}?", model="auto") for a, b in itertools.pairwise(_OF[:7])]
    assert {answer.status_code for answer in answers} == {200}
    return {answer.headers["x-farthing-model"] for answer in answers}


def _admin(school: Installation, method: str, path: str, body: object | None = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {school.key}"}
    return httpx.request(method, f"{school.url}/admin/v1{path}", json=body, headers=headers, timeout=30, verify=NO_TLS)


def test_what_is_learnt_is_promoted_decides_and_is_rolled_back(school: Installation, rows: Path) -> None:
    key = new_key(school, "pupils")["key"]
    both_workers(school)
    assert _models(school, key, _EASY[0]) == {"strong"}, "before anything is learnt the default answers"
    made = _farthing(school, "train", "--train", str(rows), "--router", "auto", "--json")
    assert (made["version"], made["n_train"], made["models"], made["promoted"]) == (1, 360, ["fast", "strong"], None)
    assert made["advice"]["promote"], made["advice"]
    assert made["apgr"] > 0.7
    assert _models(school, key, _EASY[0]) == {"strong"}, "a version decides nothing before it is promoted"
    assert "version 1 decides" in _farthing(school, "promote", "auto", "1")
    eventually(lambda: _models(school, key, _EASY[0]) == {"fast"}, "the weak model for what it can do")
    assert _models(school, key, _HARD[0]) == {"strong"}
    answer = ask(school, key, f"{_EASY[1]} Peru and France?", model="auto")
    assert answer.headers["x-farthing-route"] == "learned"
    for score in (0.25, 0.5, 0.75):  # to whichever worker
        assert _told(school, {"tenant": "pupils", "request_id": answer.headers["x-farthing-request-id"], "score": score}) == "fast"
    listed = _farthing(school, "versions", "auto", "--json")["data"]
    assert [(one["router"], one["promoted"], len(one["versions"])) for one in listed] == [("auto", 1, 1)]
    assert listed[0]["versions"][0]["metrics"]["models"] == ["fast", "strong"]
    again = _farthing(school, "train", "--train", str(rows), "--router", "auto", "--json")
    assert (again["version"], again["advice"]["promote"]) == (2, False), "the same again is no better"
    assert "cannot be compared" in again["advice"]["why"]
    assert _farthing(school, "rollback", "auto", "--json")["promoted"] is None
    eventually(lambda: _models(school, key, _EASY[0]) == {"strong"}, "the default again")
    _farthing(school, "rollback", "auto", refused="nothing to go back to")


def _told(school: Installation, verdict: dict[str, Any]) -> str:
    """The model that a person's word counts for, once the ledger has the request and another worker's outcome is stored."""

    def tell() -> Any:
        answer = _admin(school, "POST", "/routers/verdicts", verdict)
        return answer.json() if answer.status_code == 200 else None

    return str(eventually(tell, "a verdict that is heard")["model"])


def test_a_cascade_and_people_teach_a_router(school: Installation, up: ScriptedUpstream) -> None:
    key = new_key(school, "teachers", user="ann")["key"]
    up.script("fast", lambda received: completion("bad" if "integral" in json.dumps(received.body) else "good"))
    up.script("strong", completion("good"))
    asked = [(start, place) for start in (_HARD[0], _EASY[0]) for place in _OF]
    answers = [ask(school, key, f"{start} {place}?", model="strict") for start, place in asked]
    assert [answer.headers["x-farthing-model"] for answer in answers] == ["strong"] * 10 + ["fast"] * 10
    found = eventually(
        lambda: stored if len(stored := query(school, "SELECT * FROM farthing.outcomes WHERE tenant = 'teachers'")) == 30 else None,
        "two outcomes of those that were asked twice, and one of the others",
    )
    said = {(row["model"], row["score"], row["by"]) for row in found}
    assert said == {("fast", 0.0, "check"), ("strong", 1.0, "check"), ("fast", 1.0, "check")}
    facts = {(row["router"], row["user_id"], len(row["vector"]), row["explored"]) for row in found}
    assert facts == {("strict", "ann", 384, False)}
    made = _farthing(school, "train", "--from-ledger", "--tenant", "teachers", "--router", "strict", "--json")
    assert (made["n_train"], made["incomplete"], made["source"]) == (20, 0, "ledger")
    assert not made["advice"]["promote"], "20 rows are too few to say so"
    _farthing(school, "train", "--from-ledger", "--tenant", "nobody", "--router", "strict", refused="no outcomes to learn from")

    verdict = {"tenant": "teachers", "request_id": answers[-1].headers["x-farthing-request-id"], "score": 0.25, "by": "correction"}
    assert _told(school, verdict) == "fast"
    (row,) = query(school, "SELECT score, by FROM farthing.outcomes WHERE request_id = %s", verdict["request_id"])
    assert row == {"score": 0.25, "by": "correction"}
    assert _admin(school, "POST", "/routers/verdicts", {**verdict, "tenant": "pupils"}).status_code == 404

    erased = _admin(school, "DELETE", "/tenants/teachers/users/ann/data").json()
    assert erased["deleted"]["outcomes"] == 30
    assert _admin(school, "POST", "/routers/verdicts", verdict).status_code == 404
    left = query(school, "SELECT 1 FROM farthing.outcomes WHERE tenant = 'teachers'")
    assert left == [], "what was asked before is not stored afterwards"


def test_what_does_not_fit_is_refused_in_words(school: Installation, rows: Path, tmp_path: Path) -> None:
    _farthing(school, "train", "--train", str(rows), "--router", "typo", refused="known: auto, strict")
    _farthing(school, "train", "--train", str(rows), refused="--router NAME, or")
    _farthing(school, "train", "--router", "auto", refused="--train FILE or --from-ledger")
    _farthing(school, "train", "--train", str(rows), "--tenant", "acme", "--router", "auto", refused="--tenant goes with --from-ledger")
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"prompt": "Hi", "outcomes": {"gpt": 1, "claude": 0}}) + "\n")
    _farthing(school, "train", "--train", str(other), "--router", "auto", refused="claude, gpt")
    _farthing(school, "promote", "auto", "77", refused="has no version 77")
    _farthing(school, "versions", "typo", refused="known: auto, strict")
    done = _farthing(school, "train", "--train", str(rows), "--models", "strong,fast", "--out", str(tmp_path / "reverse"))
    assert json.loads(done)["models"] == ["strong", "fast"]
    body = {"artefact": base64.b64encode((tmp_path / "reverse").read_bytes()).decode()}
    refused = _admin(school, "POST", "/routers/auto/versions", body)
    assert (refused.status_code, "in the order" in refused.text) == (400, True)


def test_people_are_told_in_words(school: Installation, rows: Path) -> None:
    said = _farthing(school, "train", "--train", str(rows), "--router", "strict")
    assert re.match(
        r"strict: version \d+ from 360 rows, APGR 0\.\d+ \(0\.\d+ to 0\.\d+\)\npromote it \(farthing route promote strict \d+\): ", said
    )
    table = _farthing(school, "versions", "strict")
    assert re.search(r"strict +│ +\d+ ", table)
    assert "decides since" in table
    assert _farthing(school, "promote", "strict", "none") == "strict: its default decides\n"
