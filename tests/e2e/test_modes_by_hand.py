"""Operators set, pin and look at modes: over HTTP and the command line, at the same time, with the database away, and wrongly."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import scripted
from inside import NO_TLS, ask, eventually, new_key, query
from postgres_proxy import Outpost, PostgresProxy, database_behind

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream

_OPERATORS = 12


@pytest.fixture(scope="module")
def proxied(gateway: Installation) -> Iterator[tuple[PostgresProxy, str]]:
    with database_behind(gateway, "modes") as found:
        yield found


@pytest.fixture(scope="module")
def outpost(folders: Path, upstream: ScriptedUpstream, gateway: Installation, proxied: tuple[PostgresProxy, str]) -> Iterator[Outpost]:
    settings = scripted(upstream, server={"drain_s": 2}, config={"poll_s": 0.2}, database={"probe_interval_s": 0.2})
    with Outpost(folders / "modes", settings, gateway, proxied[1], "modes") as running:
        yield running


@pytest.fixture
def modes(outpost: Outpost) -> Outpost:
    """Without any pin, and everybody in the best mode."""
    for scope in state(outpost)["scopes"]:
        if scope["pin"]:
            admin(outpost, "DELETE", f"/pins/{scope['scope']}")
        if scope["entry"]:
            admin(outpost, "PUT", "", {"mode": "DEEP", "scope": scope["scope"]})
    return outpost


def admin(farthing: Installation, method: str, path: str, body: object | None = None, *, status: int = 200, key: str | None = None) -> Any:
    headers = {"authorization": f"Bearer {key or farthing.key}"}
    answer = httpx.request(method, f"{farthing.url}/admin/v1/mode{path}", json=body, headers=headers, timeout=30, verify=NO_TLS)
    assert answer.status_code == status, answer.text
    return answer.json()


def state(farthing: Installation, query: str = "") -> Any:
    return admin(farthing, "GET", query)


def mode_of(farthing: Installation, scope: str) -> str:
    """What holds for callers in a scope."""
    found: str = next(one["mode"] for one in state(farthing, f"?scope={scope}")["scopes"] if one["scope"] == scope)
    return found


def message(answer: Any) -> str:
    said: str = answer["error"]["message"]
    return said


def test_a_mode_is_set_for_everybody_and_put_back(modes: Outpost) -> None:
    before = state(modes)["version"]
    done = admin(modes, "PUT", "", {"mode": "SHALLOW", "reason": "a weekend on the front page"})
    assert (done["version"], done["reason"], done["stale"]) == (before + 1, "a weekend on the front page", False)
    assert done["by"].startswith("operator:")
    assert [mode_of(modes, scope) for scope in ("total", "tenant:acme", "tier:free")] == ["SHALLOW"] * 3
    done = admin(modes, "PUT", "", {"mode": "DEEP"})
    assert mode_of(modes, "tenant:acme") == "DEEP"
    assert [one["entry"] for one in done["scopes"]] == [None], "the best mode needs no entry"


def test_a_pin_holds_against_what_is_set_and_is_taken_away(modes: Outpost) -> None:
    key = new_key(modes, "acme", tier="pro")
    admin(modes, "POST", "/pins", {"mode": "DEEP", "scope": "tier:pro", "reason": "they pay"})
    admin(modes, "PUT", "", {"mode": "SUPER_SHALLOW"})
    assert mode_of(modes, f"key:{key['id']}") == "DEEP", "its tier is pinned"
    assert mode_of(modes, "tier:free") == "SUPER_SHALLOW"
    admin(modes, "DELETE", "/pins/tier:pro?reason=enough")
    assert mode_of(modes, f"key:{key['id']}") == "SUPER_SHALLOW"
    assert "tier:pro" in message(admin(modes, "DELETE", "/pins/tier:pro", status=404))


def test_a_pin_ends_by_itself(modes: Outpost) -> None:
    done = admin(modes, "POST", "/pins", {"mode": "SHALLOW", "for_s": 0.6})
    (total,) = done["scopes"]
    assert (total["mode"], total["pin"]["until"] is not None) == ("SHALLOW", True)
    eventually(lambda: mode_of(modes, "total") == "DEEP", "the end of the pin")
    assert state(modes)["version"] == done["version"], "nobody had to write for it"


def test_who_did_what_when_and_why_is_told_newest_first(modes: Outpost) -> None:
    operator = new_key(modes, "ops", admin=True, name="ann")
    admin(modes, "PUT", "", {"mode": "SHALLOW", "scope": "tenant:acme", "reason": "one"}, key=operator["key"])
    admin(modes, "POST", "/pins", {"mode": "DEEP", "scope": "total", "reason": "two"})
    admin(modes, "DELETE", "/pins/total?reason=three", key=operator["key"])
    told = admin(modes, "GET", "/history?limit=3")["data"]
    assert [(one["reason"], one["changes"]) for one in told] == [
        ("three", ["total: no pin to DEEP any more"]),
        ("two", ["total: pinned to DEEP"]),
        ("one", ["tenant:acme: the best mode → SHALLOW"]),
    ]
    assert [one["by"] == "operator:ann" for one in told] == [True, False, True]
    assert [one["version"] for one in told] == [told[0]["version"] - n for n in range(3)]


def test_operators_at_the_same_time_undo_nothing_of_each_other(modes: Outpost) -> None:
    first = state(modes)["version"]
    with ThreadPoolExecutor(_OPERATORS) as pool:
        list(
            pool.map(
                lambda n: admin(modes, "POST", "/pins", {"mode": "SHALLOW", "scope": f"tenant:t{n}", "reason": f"r{n}"}), range(_OPERATORS)
            )
        )
    found = state(modes)
    assert {one["scope"] for one in found["scopes"] if one["pin"]} == {f"tenant:t{n}" for n in range(_OPERATORS)}
    assert found["version"] == first + _OPERATORS
    assert {one["reason"] for one in admin(modes, "GET", f"/history?limit={_OPERATORS}")["data"]} == {f"r{n}" for n in range(_OPERATORS)}


def test_of_operators_that_expect_a_version_one_wins_and_the_others_are_told_who(modes: Outpost) -> None:
    version = state(modes)["version"]
    wanted = [{"mode": "SHALLOW", "scope": f"tenant:t{n}", "version": version} for n in range(_OPERATORS)]

    def put(body: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {modes.key}"}
        return httpx.put(f"{modes.url}/admin/v1/mode", json=body, headers=headers, timeout=30, verify=NO_TLS)

    with ThreadPoolExecutor(_OPERATORS) as pool:
        answers = list(pool.map(put, wanted))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (_OPERATORS - 1)
    for answer in answers:
        if answer.status_code == httpx.codes.CONFLICT:
            assert f"is at version {version + 1} and not {version}: operator:" in message(answer.json())
            assert answer.json()["error"]["code"] == "conflict"
    assert state(modes)["version"] == version + 1


def test_only_admin_keys_open_the_doors(modes: Outpost) -> None:
    key = new_key(modes, "acme")["key"]
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", {"mode": "SHALLOW"}),
        ("POST", "/pins", {"mode": "SHALLOW"}),
        ("DELETE", "/pins/total", None),
        ("GET", "/history", None),
    ):
        admin(modes, method, path, body, key=key, status=403)
        admin(modes, method, path, body, key="fk-nobody", status=401)
    assert mode_of(modes, "total") == "DEEP"


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("PUT", "", {"mode": "shallow"}, "did you mean 'SHALLOW'?"),
        ("PUT", "", {"mode": "SUPERSHALLOW"}, "did you mean 'SUPER_SHALLOW'?"),
        ("PUT", "", {"mode": "x" * 99}, "the ladder has: DEEP, SHALLOW, SUPER_SHALLOW"),
        ("PUT", "", {"mode": "SHALLOW", "scope": "teir:free"}, "did you mean tier:free?"),
        ("PUT", "", {"mode": "SHALLOW", "scope": "everybody"}, "write total, tier:NAME, tenant:NAME or key:UUID"),
        ("PUT", "", {"mode": "SHALLOW", "scope": "tenant:"}, "no scope"),
        ("PUT", "", {"mode": "SHALLOW", "scope": "tenant:a\u0000b"}, "no scope"),
        ("PUT", "", {"mode": "SHALLOW", "scope": "key:abc"}, "UUIDs"),
        ("PUT", "", {"mode": "SHALLOW", "version": -1}, "version"),
        ("PUT", "", {"mode": "SHALLOW", "reason": "x" * 501}, "reason"),
        ("PUT", "", {"mood": "SHALLOW"}, "mood"),
        ("PUT", "", {}, "mode"),
        ("POST", "/pins", {"mode": "SHALLOW", "for_s": 0}, "for_s"),
        ("POST", "/pins", {"mode": "SHALLOW", "for_s": 1e12}, "for_s"),
        ("POST", "/pins", {"mode": "SHALLOW", "for_s": 9, "until": "2099-01-01"}, "not both"),
        ("POST", "/pins", {"mode": "SHALLOW", "until": "tomorrow"}, "no time"),
        ("POST", "/pins", {"mode": "SHALLOW", "until": "2020-01-01T00:00:00Z"}, "future"),
        ("POST", "/pins", {"mode": "SHALLOW", "until": "9999-12-31T23:59:59+00:00"}, "366 days"),
        ("DELETE", "/pins/everybody", None, "no scope"),
        ("DELETE", "/pins/total?version=x", None, "version"),
        ("DELETE", "/pins/total?why=x", None, "reason"),
        ("GET", "/history?limit=0", None, "limit"),
        ("GET", "/history?limit=1001", None, "limit"),
        ("GET", "?tenant=acme", None, "scope"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_write(modes: Outpost, method: str, path: str, body: object, says: str) -> None:
    assert says in message(admin(modes, method, path, body, status=400))


def test_a_key_that_nobody_has_is_not_found_and_other_methods_are_told(modes: Outpost) -> None:
    nobody = "key:00000000-0000-0000-0000-000000000001"
    assert "there is no key" in message(admin(modes, "POST", "/pins", {"mode": "SHALLOW", "scope": nobody}, status=404))
    assert "takes GET, HEAD, PUT" in message(admin(modes, "PATCH", "", {}, status=405))
    assert "takes POST" in message(admin(modes, "GET", "/pins", status=405))
    assert "takes DELETE" in message(admin(modes, "GET", "/pins/total", status=405))


def test_a_version_that_nobody_understands_is_told_and_written_over(modes: Outpost) -> None:
    query(modes, "UPDATE farthing.config SET body = '{\"entries\": 7}' WHERE name = 'modes'")
    found = state(modes)
    assert "no state of modes" in found["problem"]
    assert [one["mode"] for one in found["scopes"]] == ["DEEP"]
    done = admin(modes, "PUT", "", {"mode": "SHALLOW"})
    assert (done["problem"], mode_of(modes, "total")) == (None, "SHALLOW")


def test_with_the_database_away_the_last_known_is_shown_and_nothing_is_written(modes: Outpost, proxied: tuple[PostgresProxy, str]) -> None:
    admin(modes, "POST", "/pins", {"mode": "SHALLOW", "scope": "tenant:acme"})
    known = state(modes)
    key = new_key(modes, "acme")["key"]
    assert ask(modes, key, "hello").status_code == 200
    for fail in (proxied[0].away, proxied[0].hang):
        fail()
        try:
            found = eventually(lambda: one if (one := state(modes))["stale"] else None, "a store that is away")
            assert {**found, "stale": False} == known
            assert "database" in message(admin(modes, "PUT", "", {"mode": "SUPER_SHALLOW"}, status=503))
            admin(modes, "GET", "/history", status=503)
            assert ask(modes, key, f"hello {time.monotonic()}").status_code == 200
        finally:
            proxied[0].back()
        eventually(lambda: not state(modes)["stale"], "the store being back")
    assert state(modes)["version"] == known["version"]


def test_the_command_line_shows_sets_pins_and_tells(modes: Outpost) -> None:
    said = modes.cli("mode", "set", "SHALLOW", "--scope", "tier:free", "--reason", "[/b] a hard [red]weekend :smile:").stdout
    assert "tier:free" in said
    assert "[/b] a hard [red]weekend :smile:" in said
    pinned = json.loads(modes.cli("mode", "pin", "DEEP", "--scope", "tenant:acme", "--for", "2h", "--json").stdout)
    (pin,) = [one["pin"] for one in pinned["scopes"] if one["pin"]]
    assert pin["until"] > pin["since"]
    assert "pinned until" in modes.cli("mode", "show", "--scope", "tenant:acme").stdout
    late = modes.cli("mode", "unpin", "--scope", "tenant:acme", "--if-version", "1", check=False)
    assert (late.returncode, late.stdout) == (1, "")
    assert f"is at version {pinned['version']} and not 1" in late.stderr
    modes.cli("mode", "unpin", "--scope", "tenant:acme", "--if-version", str(pinned["version"]))
    told = modes.cli("mode", "history", "--limit", "2").stdout
    assert "no pin to DEEP any more" in told
    assert "pinned to DEEP until" in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pin", "DEEP", "--for", "2 ours"), "write 2h"),
        (("pin", "DEEP", "--for", "0h"), "write"),
        (("pin", "DEEPER"), "did you mean 'DEEP'?"),
        (("set", "DEEP", "--scope", "tennant:acme"), "did you mean tenant:acme?"),
        (("unpin", "--scope", "tenant:nobody"), "there is no pin of tenant:nobody"),
    ],
)
def test_the_command_line_says_what_to_write_instead(modes: Outpost, arguments: tuple[str, ...], says: str) -> None:
    done = modes.cli("mode", *arguments, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr


def test_with_the_state_in_files_modes_are_set_while_the_database_is_away(
    folders: Path, upstream: ScriptedUpstream, gateway: Installation
) -> None:
    with database_behind(gateway, "modes-in-files") as (proxy, url):
        settings = scripted(upstream, server={"drain_s": 1}, config={"store": "file"})
        with Outpost(folders / "modes-in-files", settings, gateway, url, "modes-in-files", workers=2) as running:
            proxy.away()
            assert admin(running, "GET", "/history")["data"] == []
            done = admin(running, "PUT", "", {"mode": "SHALLOW", "reason": "the database is away"})
            assert (done["version"], done["stale"]) == (1, False)
            assert done["by"].startswith("operator:")
            for _ in range(8):
                assert mode_of(running, "total") == "SHALLOW", "whichever worker is asked"
            assert admin(running, "GET", "/history")["data"][0]["reason"] == "the database is away"
            assert (folders / "modes-in-files" / "data" / "config" / "modes.jsonl").exists()
