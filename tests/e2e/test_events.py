"""The door for what happened: CloudEvents in all their forms, durable when answered, seen by admins alone."""

import json
import subprocess
import sys
from typing import Any
from uuid import uuid4

import httpx
import pytest
from inside import NO_TLS, eventually, new_key, query

from farthing.testing.installation import Installation
from farthing.types import utc_now

Json = dict[str, Any]
ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture
def tenant() -> str:
    return f"tenant-{uuid4()}"


@pytest.fixture
def key(gateway: Installation, tenant: str) -> str:
    return str(new_key(gateway, tenant)["key"])


def event(number: int = 1, **facts: Any) -> Json:
    usual = {"specversion": "1.0", "id": f"e{number}", "source": "app", "type": "page.viewed", "time": utc_now().isoformat()}
    return {**usual, "subject": "home", "user": "ann", "data": {"page": "/", "number": number}, **facts}


def post(house: Installation, key: str, body: object, media: str = "application/json", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"authorization": f"Bearer {key}", "content-type": media, **headers}
    return httpx.post(f"{house.base_url}/events", content=content, headers=sent, timeout=60, verify=NO_TLS)


def counts(answer: httpx.Response) -> tuple[int, int, int, int]:
    said = answer.json()
    return answer.status_code, said["accepted"], said["duplicates"], said["rejected_total"]


def tail(house: Installation, tenant: str) -> list[Json]:
    headers = {"authorization": f"Bearer {house.key}"}
    answer = httpx.get(f"{house.url}/admin/v1/events", params={"tenant": tenant}, headers=headers, timeout=20, verify=NO_TLS)
    found: list[Json] = answer.raise_for_status().json()["data"]
    return found


def test_events_come_in_whatever_their_form_and_are_stored_once(gateway: Installation, key: str, tenant: str) -> None:
    assert counts(post(gateway, key, event(1), ONE)) == (202, 1, 0, 0)
    assert counts(post(gateway, key, [event(2), event(1), event(3)], BATCH)) == (202, 2, 1, 0)
    attributes = {"ce-specversion": "1.0", "ce-id": "e4", "ce-source": "app", "ce-type": "order.paid", "ce-user": "Zo%C3%AB"}
    assert counts(post(gateway, key, b'{"sum": 5}', **attributes)) == (202, 1, 0, 0)
    assert counts(post(gateway, key, [event(1), event(5)])) == (202, 1, 1, 0)
    assert counts(post(gateway, key, [event(2), event(3)])) == (202, 0, 2, 0)
    found = tail(gateway, tenant)
    assert [one["id"] for one in found] == ["e1", "e2", "e3", "e4", "e5"]
    assert [one["position"] for one in found] == sorted(one["position"] for one in found)
    assert {one["tenant"] for one in found} == {tenant}
    assert (found[3]["user"], found[3]["data"], found[0]["data"]) == ("Zoë", {"sum": 5}, {"page": "/", "number": 1})
    shown = gateway.cli("events", "tail", "--tenant", tenant).stdout.splitlines()
    assert ["order.paid" in line for line in shown] == [False, False, False, True, False]


def test_the_tail_is_followed(gateway: Installation, key: str, tenant: str) -> None:
    command = [sys.executable, "-m", "farthing.cli.main", "events", "tail", "--follow", "--json", "--tenant", tenant]
    assert counts(post(gateway, key, event(1)))[0] == 202
    with subprocess.Popen([*command, "--data", str(gateway.data)], stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        try:
            assert json.loads(following.stdout.readline())["id"] == "e1"
            assert counts(post(gateway, key, [event(2), event(3)]))[0] == 202
            assert [json.loads(following.stdout.readline())["id"] for _ in range(2)] == ["e2", "e3"]
        finally:
            following.kill()


def test_of_ten_thousand_with_one_bad_that_one_is_told_and_the_others_are_durable(gateway: Installation, key: str, tenant: str) -> None:
    batch = [event(number) for number in range(10_000)]
    batch[1234]["time"] = "tomorrow"
    answer = post(gateway, key, batch, BATCH)
    assert counts(answer) == (202, 9_999, 0, 1)
    (rejected,) = answer.json()["rejected"]
    assert (rejected["index"], rejected["id"], rejected["error"]["param"]) == (1234, "e1234", "time")
    assert query(gateway, "SELECT count(*) FROM farthing.events WHERE tenant = %s", tenant) == [{"count": 9_999}]


def test_what_claims_to_be_anothers_is_refused(gateway: Installation, key: str, tenant: str) -> None:
    bound = str(new_key(gateway, tenant, user="bob")["key"])
    for who, body, param in (
        (key, event(tenant="rival"), "tenant"),
        (bound, event(user="ann"), "user"),
        (key, event(type="farthing.mode.changed"), "type"),
    ):
        answer = post(gateway, who, body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (403, param)
        assert counts(post(gateway, who, [body, body]))[:2] == (400, 0)
    assert counts(post(gateway, bound, event(7, user=None)))[:2] == (202, 1)
    assert [(one["id"], one["user"]) for one in tail(gateway, tenant)] == [("e7", "bob")]


def test_what_is_wrong_is_said(gateway: Installation, key: str) -> None:
    large = event(data="x" * 2**21)
    for body, media, status, says in (
        (event(id=None), ONE, 400, "id"),
        (event(specversion=None), ONE, 400, '"specversion": "1.0"'),
        (event(time="2999-01-01T00:00:00Z"), ONE, 400, "max_ahead_s"),
        (large, ONE, 413, "max_event_bytes"),
        ([large], BATCH, 400, "max_event_bytes"),
        (b"x" * (9 * 2**20), ONE, 413, "max_batch_bytes"),
        (b"not json", ONE, 400, "not JSON"),
        ([], BATCH, 400, "empty"),
        (event(), "application/xml", 400, BATCH),
    ):
        answer = post(gateway, key, body, media)
        assert answer.status_code == status, answer.text
        assert says in answer.json()["error"]["message"]
    assert httpx.post(f"{gateway.base_url}/events", json=event(), verify=NO_TLS).status_code == 401
    refused = httpx.get(f"{gateway.url}/admin/v1/events", headers={"authorization": f"Bearer {key}"}, verify=NO_TLS)
    assert refused.status_code == 403


def test_limits_of_a_key_hold(gateway: Installation, tenant: str) -> None:
    key = str(new_key(gateway, tenant, requests_per_minute=2)["key"])
    answers = [post(gateway, key, [event(number), event(100 + number)]) for number in range(3)]
    assert [one.status_code for one in answers] == [202, 202, 429]
    assert int(answers[2].headers["retry-after"]) >= 1
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert len(tail(gateway, tenant)) == 4


def test_what_the_installation_does_itself_is_on_the_bus(gateway: Installation, key: str, tenant: str) -> None:
    del key  # of the tenant, which is known by it
    with httpx.Client(base_url=f"{gateway.url}/admin/v1", headers={"authorization": f"Bearer {gateway.key}"}, verify=NO_TLS) as admin:
        admin.post("/cache/flush", json={"tenant": tenant, "namespace": "docs"}).raise_for_status()
        made = admin.post("/budgets", json={"tenant": tenant, "budget_usd": "5/day"}).raise_for_status().json()
        admin.delete(f"/budgets/{made['id']}").raise_for_status()
        admin.put("/mode", json={"scope": f"tenant:{tenant}", "mode": "SHALLOW", "reason": "a test"}).raise_for_status()
        found = eventually(lambda: many if len(many := tail(gateway, tenant)) == 3 else None, "all told")
        latest = admin.get("/events", params={"limit": 1000}).json()["data"]
    told = {one["type"]: one["data"] for one in found}
    assert told["farthing.cache.flushed"]["namespace"] == "docs"
    assert told["farthing.budget.changed"]["limit_microusd"] == 5_000_000
    assert told["farthing.budget.deleted"] == {"id": made["id"]}
    changes = [(one["tenant"], one["data"]["reason"]) for one in latest if one["type"] == "farthing.mode.changed"]
    assert ("", "a test") in changes


def test_nobody_is_behind_and_nothing_is_dead(gateway: Installation) -> None:
    handlers = {one["handler"]: one for one in json.loads(gateway.cli("events", "backlog", "--json").stdout)["data"]}
    assert all(one["dead"] == 0 for one in handlers.values())
    missing = gateway.cli("events", "replay", str(uuid4()), "--json")
    assert json.loads(missing.stdout) == {"object": "farthing.event_replay", "asked": 1, "replayed": 0}
