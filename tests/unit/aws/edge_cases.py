"""What stands in the KeyValueStore and what the function at the edge makes of it: the cases of `edge_cases.json`, made by this file.

Run it after a change of the codec: `.venv/bin/python tests/unit/aws/edge_cases.py` writes the file anew.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from farthing.aws.edge_codec import answer_key, encode, version_key
from farthing.testing.edge_function import token as signed
from farthing.types import EdgeAnswer

FILE = Path(__file__).with_suffix(".json")
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
KEY = "a key of thirty-two bytes or more, by chance"
REQUEST = UUID("019ac9d0-0000-7000-8000-000000000001")


def token(told: dict[str, Any], *, key: str = KEY, kid: str = "2026", **head: Any) -> str:
    """A JWT, signed with the key of the store."""
    return signed(told, key=key, kid=kid, **head)


def claims(**more: Any) -> dict[str, Any]:
    """Ann's, good for an hour."""
    return {"tenant": "acme", "sub": "ann", "exp": int((NOW + HOUR).timestamp()), **more}


def answer(**more: Any) -> EdgeAnswer:
    """Ann's briefing, which hangs on `deployments` at 2 and on `alerts`, that never changed."""
    told: dict[str, Any] = {
        "tenant": "acme",
        "user": "ann",
        "action": "briefing",
        "body": {"content": 'All is well: "ünï"\n\u2028', "format": "text", "usage": {"total_tokens": 34}},
        "model": "fast",
        "versions": {"deployments": 2, "alerts": 0},
        "request_id": REQUEST,
        "made_at": NOW,
        "expires_at": NOW + HOUR,
        "cost_microusd": 7,
        **more,
    }
    return EdgeAnswer(**told)


def cases() -> list[dict[str, Any]]:
    """All of them.

    `expect`: `answer` with what is given, `known` (304), `s3` with the path, or `forward`; `user`: who the origin is told that it is, null
    for nobody.
    """
    ann = token(claims())
    big = answer(body={"content": "x" * 2000})
    odd = answer(tenant="ünï", user="a b/ü", action="täglich")
    none = {"alg": "none"}
    return [
        _case("a fresh answer", [answer()]),
        _case("one that hangs on nothing", [answer(versions={})]),
        _case("one of JSON", [answer(body={"content": '{"n": 1.0}', "format": "json"})]),
        _case("a body of any kind", [answer(body={"any": [1, None]})]),
        _case("one that is known already", [answer()], headers={"if-none-match": f'"{REQUEST.hex}"'}, expect="known"),
        _case("another one that is known", [answer()], headers={"if-none-match": '"other"'}),
        _case("one that does not fit and is known", [big], headers={"if-none-match": f'W/"{REQUEST.hex}"'}, expect="known"),
        _case("names of all kinds", [odd], path="/edge/t%C3%A4glich", cookie=token(claims(tenant="ünï", sub="a b/ü"))),
        _case("one that does not fit", [big], expect="s3"),
        _case("a state that has changed", [answer()], states={"deployments": 3}, expect="forward"),
        _case("a state that is older", [answer()], states={"deployments": 1}, expect="forward"),
        _case("a state that has changed for the first time", [answer()], states={"deployments": 2, "alerts": 1}, expect="forward"),
        _case("a state of another tenant", [answer(tenant="other")], expect="forward"),
        _case("one that does not fit and is stale", [big], states={"deployments": 3}, expect="forward"),
        _case("an expired answer", [answer(expires_at=NOW)], expect="forward"),
        _case("no answer", [], expect="forward"),
        _case("another user's answer", [answer(user="bob")], expect="forward"),
        _case("another action", [answer()], path="/edge/alerts", expect="forward"),
        _case("another path", [answer()], path="/edge/briefing/more", expect="forward", user=None),
        _case("a path that is none", [answer()], path="/edge/%E0%A4%A", expect="forward"),
        _case("a POST", [answer()], method="POST", expect="forward"),
        _case("a value that is none", [], values={answer_key("acme", "ann", "briefing"): "{"}, expect="forward"),
        _case("no cookie", [answer()], cookie=None, expect="forward", user=None),
        _case("a user who only says so", [answer()], cookie=None, headers={"x-farthing-user": "ann"}, expect="forward", user=None),
        _case(
            "a header that says other than the cookie", [answer()], path="/edge/none", headers={"x-farthing-user": "bob"}, expect="forward"
        ),
        _case("another key", [answer()], cookie=token(claims(), key="guessed"), expect="forward", user=None),
        _case("a key that there is not", [answer()], cookie=token(claims(), kid="2025"), expect="forward", user=None),
        _case("a kid that is a path", [answer()], cookie=token(claims(), kid="../v.x"), expect="forward", user=None),
        _case("no algorithm", [answer()], cookie=token(claims(), **none).rsplit(".", 1)[0] + ".", expect="forward", user=None),
        _case("another algorithm", [answer()], cookie=token(claims(), alg="HS512"), expect="forward", user=None),
        _case("an expired token", [answer()], cookie=token(claims(exp=int(NOW.timestamp()))), expect="forward", user=None),
        _case("a token without an end", [answer()], cookie=token({"tenant": "acme", "sub": "ann"}), expect="forward", user=None),
        _case("a token without a user", [answer()], cookie=token(claims(sub="")), expect="forward", user=None),
        _case("claims of another token", [answer()], cookie=_mixed(ann, token(claims(sub="bob"))), expect="forward", user=None),
        _case("no token", [answer()], cookie="x", expect="forward", user=None),
        _case("a huge cookie", [answer()], cookie="x" * 10_000, expect="forward", user=None),
    ]


def _mixed(one: str, other: str) -> str:
    head, _, signature = one.split(".")
    return f"{head}.{other.split('.')[1]}.{signature}"


def _case(name: str, answers: list[EdgeAnswer], **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"states": {"deployments": 2}, "path": "/edge/briefing", "method": "GET", "cookie": token(claims()), **more}
    values = {"k.2026": KEY, **given.get("values", {})}
    for each in answers:
        values[answer_key(each.tenant, each.user, each.action)] = str(encode(each).value)
    tenants = {each.tenant for each in answers} | {"acme"}
    values |= {version_key(tenant, state): str(version) for tenant in sorted(tenants) for state, version in given["states"].items()}
    expect = given.get("expect", "answer")
    users = "ann" if name != "names of all kinds" else None
    return {
        "name": name,
        "now_ms": int(NOW.timestamp() * 1000),
        "values": values,
        "request": {
            "method": given["method"],
            "uri": given["path"],
            "cookie": given["cookie"],
            "headers": given.get("headers", {}),
            "query": given.get("query", {}),
        },
        "expect": expect,
        "user": given.get("user", users) if expect == "forward" else None,
        "answers": [_told(each) for each in answers],
        "given": encode(answers[0]).given.decode() if expect == "answer" else None,
        "kind": encode(answers[0]).kind if answers else None,
        "object": json.loads(str(encode(answers[0]).value))["p"] if expect == "s3" else None,
    }


def _told(each: EdgeAnswer) -> dict[str, Any]:
    return {"tenant": each.tenant, "user": each.user, "action": each.action, "key": answer_key(each.tenant, each.user, each.action)}


if __name__ == "__main__":
    FILE.write_text(json.dumps(cases(), indent=1, ensure_ascii=True) + "\n")
