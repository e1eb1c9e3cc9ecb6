"""Starts without PostgreSQL: a new installation waits for it, one with a snapshot serves; and files that a crash has left damaged."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import yaml
from conftest import scripted
from inside import NO_TLS, add_up, ask, eventually, new_key, once_each
from postgres_proxy import Outpost, PostgresProxy, database_behind

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream


@pytest.fixture(scope="module")
def proxied(gateway: Installation) -> Iterator[tuple[PostgresProxy, str]]:
    with database_behind(gateway, "outage-start") as found:
        yield found


@pytest.fixture(scope="module")
def outpost(folders: Path, upstream: ScriptedUpstream, gateway: Installation, proxied: tuple[PostgresProxy, str]) -> Iterator[Outpost]:
    """Not started yet."""
    settings = scripted(upstream, database={"probe_interval_s": 0.2}, ledger={"flush_interval_s": 0.05})
    made = Outpost(folders / "outage-start", settings, gateway, proxied[1], "outage-start")
    yield made
    made.stop()


def test_a_new_installation_waits_for_its_database_and_says_so(outpost: Outpost, proxied: tuple[PostgresProxy, str]) -> None:
    proxy, _ = proxied
    proxy.away()
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(outpost.start)
        status, body = eventually(lambda: found if (found := outpost.get("/readyz"))[0] else None, "an answer", 30)
        assert status == 503
        said = json.loads(body)
        assert (said["status"], said["waiting"]) == ("starting", ["keys"])
        refused = ask(outpost, "fk-" + "y" * 40, "too early")
        assert (refused.status_code, refused.headers["x-should-retry"]) == (503, "true")
        eventually(lambda: "the database cannot be used and is tried again" in outpost.log.read_text(encoding="utf-8"), "the reason")
        proxy.back()
        starting.result(60)
    assert ask(outpost, outpost.key, "at last").status_code == 200
    eventually(lambda: outpost.key in outpost.log.read_text(encoding="utf-8"), "the admin key is printed when it is of use")
    assert outpost.log.read_text(encoding="utf-8").count(outpost.key) == 1


def test_with_a_snapshot_it_serves_and_catches_up(outpost: Outpost, proxied: tuple[PostgresProxy, str]) -> None:
    proxy, _ = proxied
    good, revoked = new_key(outpost, "snapshot"), new_key(outpost, "snapshot")
    headers = {"authorization": f"Bearer {outpost.key}"}
    assert httpx.delete(f"{outpost.url}/admin/v1/keys/{revoked['id']}", headers=headers, verify=NO_TLS).status_code == 200
    path = outpost.data / "snapshot" / "keys.jsonl"
    eventually(lambda: b'"revoked_at":"' in path.read_bytes(), "the revocation in the snapshot")
    assert path.stat().st_mode & 0o777 == 0o600
    assert good["key"] not in path.read_text(encoding="utf-8")
    proxy.away()
    answers = [ask(outpost, good["key"], f"the last of this life {number}") for number in range(10)]
    # A crash now, and what it may leave of the spool.
    damage(outpost)
    outpost.start()
    said = json.loads(outpost.get("/readyz")[1])
    assert (said["status"], said["waiting"]) == ("degraded", [])
    assert {"database", "keys"} <= set(said["degraded"])
    answers += [ask(outpost, good["key"], f"from the snapshot {number}") for number in range(10)]
    assert [answer.status_code for answer in answers] == [200] * 20
    assert ask(outpost, revoked["key"], "revoked").status_code == 401
    proxy.back()
    eventually(lambda: json.loads(outpost.get("/readyz")[1])["status"] == "ready", "ready again")
    once_each(outpost, [answer.headers["x-request-id"] for answer in answers])
    add_up(outpost)
    aside = eventually(lambda: rejected(outpost), "what was damaged, set aside")
    assert aside == 2, "however often the store was tried meanwhile"
    assert "was damaged when its writer died" in outpost.log.read_text(encoding="utf-8")


def rejected(farthing: Outpost) -> float:
    (line,) = [
        line for line in farthing.get("/metrics", key=farthing.key)[1].splitlines() if line.startswith(b"farthing_ledger_rejected_total ")
    ]
    return float(line.split()[1])


def damage(farthing: Outpost) -> None:
    """Kill all, then damage the file with the most in it: garbage in the middle, NULs, and a last line cut in half."""
    workers = farthing.worker_pids()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    farthing.kill()
    path = max((farthing.data / "ledger").glob("*.jsonl"), key=lambda path: path.stat().st_size)
    lines = path.read_bytes().splitlines(keepends=True)
    half = lines[0][: len(lines[0]) // 2]
    path.write_bytes(b"".join([lines[0], half, *lines[1:4], b"\0" * 4096, *lines[4:], half]))


def test_a_login_that_is_turned_down_stops_a_new_installation_only(outpost: Outpost, proxied: tuple[PostgresProxy, str]) -> None:
    proxied[0].back()
    settings = yaml.safe_load(outpost.settings.read_text(encoding="utf-8"))
    settings["database"]["url"] = settings["database"]["url"].replace("/outage-start?", "/no-such-database?")
    wrong = outpost.folder / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(settings), encoding="utf-8")
    fresh = outpost.cli("up", "--port", "0", "--data", str(outpost.folder / "fresh"), "--settings", str(wrong), check=False)
    assert fresh.returncode == 1
    assert "turns down the login of database.url" in fresh.stderr
    assert 'database "no-such-database" does not exist' in fresh.stderr
    assert "Traceback" not in fresh.stderr
    outpost.stop()
    outpost.settings, right = wrong, outpost.settings
    outpost.start()
    assert json.loads(outpost.get("/readyz")[1])["status"] == "degraded"
    assert outpost.stop() == 0
    outpost.settings = right
