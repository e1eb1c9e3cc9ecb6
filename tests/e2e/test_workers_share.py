"""Two workers behave as one: keys, revocations and cached answers of one are those of the other."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
from inside import add_up, alone, ask, both_workers, eventually, new_key, once_each, query

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream

_REFRESH_S = 10.0
"""The default of `keys.refresh_s`."""


def _two(farthing: Installation) -> tuple[int, int]:
    first, second = both_workers(farthing)
    eventually(lambda: farthing.get("/readyz")[0] == 200, "ready")
    for pid in (first, second):
        with alone(farthing, pid):
            eventually(lambda: farthing.get("/readyz")[0] == 200, "ready, each")
    return first, second


def test_a_new_key_is_valid_at_once_on_both(crowd: Installation) -> None:
    first, second = _two(crowd)
    for maker, user in ((first, second), (second, first)):
        with alone(crowd, maker):
            key = new_key(crowd, "workers")["key"]
            assert ask(crowd, key, "made here").status_code == 200
        with alone(crowd, user):
            assert ask(crowd, key, "made there").status_code == 200


def test_a_revoked_key_is_refused_within_the_bound_on_both(crowd: Installation) -> None:
    first, second = _two(crowd)
    made = new_key(crowd, "workers")
    for pid in (first, second):
        with alone(crowd, pid):
            assert ask(crowd, made["key"], "still good").status_code == 200
    with alone(crowd, first):
        headers = {"authorization": f"Bearer {crowd.key}"}
        assert httpx.delete(f"{crowd.url}/admin/v1/keys/{made['id']}", headers=headers).status_code == 200
        assert ask(crowd, made["key"], "here").status_code == 401
    with alone(crowd, second):
        eventually(lambda: ask(crowd, made["key"], "there").status_code == 401, "refused by the other worker", _REFRESH_S)
        refusal = ask(crowd, made["key"], "there").json()["error"]
    assert refusal["code"] == "invalid_api_key"
    assert "revoked" in refusal["message"]


def test_an_answer_cached_by_one_is_a_hit_on_the_other(crowd: Installation, up: ScriptedUpstream) -> None:
    first, second = _two(crowd)
    key = new_key(crowd, "workers-cache")["key"]
    questions = [f"shared question {number}" for number in range(12)]
    with alone(crowd, first):
        asked = [ask(crowd, key, question) for question in questions]
    assert [answer.headers["x-farthing-source"] for answer in asked] == ["model"] * len(questions)
    stored = "SELECT count(*) AS n FROM farthing.answers WHERE tenant = 'workers-cache'"
    eventually(lambda: query(crowd, stored)[0]["n"] == len(questions), "the answers in PostgreSQL")
    with alone(crowd, second):
        sources = []
        for question in questions:  # the news may take a moment: the last ones count
            hit = ask(crowd, key, question, stream=question.endswith("1"))
            sources.append(hit.headers["x-farthing-source"])
            time.sleep(0.1)
    assert sources[-6:] == ["exact"] * 6
    times_asked = len([one for one in up.of("fast") if "shared question" in str(one.body)])
    assert times_asked == len(questions) + sources.count("model")


def test_many_connections_over_both_are_each_in_the_ledger_once(crowd: Installation) -> None:
    _two(crowd)
    key = new_key(crowd, "workers-many")["key"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: ask(crowd, key, f"many {number % 20}"), range(80)))
    assert {answer.status_code for answer in answers} == {200}
    once_each(crowd, [answer.headers["x-request-id"] for answer in answers])
    add_up(crowd)
    found = crowd.report(tenant="workers-many")
    sources = found["by_source"]
    assert found["requests"] == 80
    assert sources["model"]["requests"] + sources["exact"]["requests"] == 80
    # Each worker asks the model at most once for each question.
    assert sources["model"]["requests"] <= 40
