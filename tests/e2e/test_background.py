"""Background processes: beside a gateway, killed, replaced by a reload, and on a host of their own; and the jobs that they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conftest import scripted
from inside import NO_TLS, alive, eventually, query

from farthing.cli import jobs
from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream

_JOBS = {"prune": "* * * * * */1", "poll_s": 0.1, "lease_s": 1, "drain_s": 1}


@pytest.fixture(scope="module")
def busy(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    """Stores are pruned every second, by a background process."""
    with Installation(folders / "background", scripted(upstream, jobs=_JOBS), background=None) as running:
        yield running


def _background(farthing: Installation, count: int, *, without: set[int] = frozenset()) -> list[int]:  # type: ignore[assignment]
    def look() -> list[int] | None:
        pids = farthing.background_pids()
        return pids if len(pids) == count and not without & set(pids) else None

    return eventually(look, f"{count} background processes")


def _done(farthing: Installation, beyond: int = 0) -> list[dict[str, Any]]:
    """Runs that ended well, once there are more than so many."""
    sql = "SELECT id::text, name, done, failed FROM farthing.runs WHERE state = 'done' ORDER BY id"
    return eventually(lambda: rows if len(rows := query(farthing, sql)) > beyond else None, f"more than {beyond} runs")


def _get(farthing: Installation, path: str) -> tuple[int, dict[str, Any]]:
    answer = httpx.get(f"{farthing.url}{path}", headers={"authorization": f"Bearer {farthing.key}"}, timeout=10, verify=NO_TLS)
    return answer.status_code, answer.json()


def test_a_schedule_makes_runs_whose_results_an_operator_reads(busy: Installation, capsys: pytest.CaptureFixture[str]) -> None:
    _background(busy, 1)
    assert len(busy.worker_pids()) == 1
    run = _done(busy)[0]
    listed = json.loads(busy.cli("jobs", "list", "--kind", "prune", "--state", "done", "--json").stdout)
    assert run["id"] in {one["id"] for one in listed["data"]}
    jobs.show(run["id"], as_json=True, data=busy.data)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["progress"]["failed"], shown["tenant"]) == ("done", 0, "")
    jobs.results(run["id"], limit=0, data=busy.data)
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(results) == shown["progress"]["total"] == run["done"]
    assert results[0] == {**results[0], "key": "jobs", "state": "done", "attempts": 1, "error": None}
    assert results[0]["result"]["deleted"] >= 0
    jobs.results(run["id"], limit=2, data=busy.data)
    assert len(capsys.readouterr().out.splitlines()) == 2
    jobs.cancel(run["id"], data=busy.data)
    assert ", done\n" in capsys.readouterr().out, "what has ended stays as it ended"

    def counted() -> bool:
        return 'farthing_jobs_ended_total{farthing_end="done"}' in busy.get("/metrics", key=busy.key)[1].decode()

    eventually(counted, "the background process's metrics at the gateway's door")


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/admin/v1/jobs?state=odd", 400, "filling, running, done, cancelled"),
        ("/admin/v1/jobs?before=x", 400, "id of a run"),
        ("/admin/v1/jobs?tenant=%00", 400, "NUL"),
        ("/admin/v1/jobs/x", 400, "id of a run"),
        ("/admin/v1/jobs/00000000-0000-7000-8000-000000000000", 404, "there is no run"),
        ("/admin/v1/jobs/00000000-0000-7000-8000-000000000000/results", 404, "there is no run"),
        ("/admin/v1/jobs/00000000-0000-7000-8000-000000000000/results?after=-1", 400, "next"),
        ("/admin/v1/jobs/00000000-0000-7000-8000-000000000000/cancel", 405, "POST"),
    ],
)
def test_what_cannot_be_asked_of_jobs_is_said(busy: Installation, path: str, status: int, said: str) -> None:
    found, body = _get(busy, path)
    assert (found, said in body["error"]["message"]) == (status, True), body


def test_a_killed_background_process_is_replaced_and_no_run_is_lost_or_doubled(busy: Installation) -> None:
    before = _background(busy, 1)
    known = len(_done(busy))
    os.kill(before[0], signal.SIGKILL)
    _background(busy, 1, without=set(before))
    _done(busy, known + 1)
    assert query(busy, "SELECT name FROM farthing.runs GROUP BY name HAVING count(*) > 1") == []
    assert query(busy, "SELECT FROM farthing.runs WHERE failed > 0") == []
    assert busy.get("/readyz")[0] == 200


def test_another_host_does_the_jobs_when_this_one_does_not(busy: Installation) -> None:
    """`farthing worker` with a data folder of its own shares nothing but the database."""
    (frozen,) = _background(busy, 1)
    folder = busy.folder / "elsewhere"
    folder.mkdir()
    settings = folder / "farthing.yaml"
    elsewhere = {**yaml.safe_load(busy.settings.read_text(encoding="utf-8")), "database": {"url": busy.database_url}}
    settings.write_text(yaml.safe_dump(elsewhere), encoding="utf-8")
    command = [sys.executable, "-m", "farthing.cli.main", "worker", "--workers", "1", "--data", "data", "--settings", str(settings)]
    os.kill(frozen, signal.SIGSTOP)
    try:
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "Farthing is at work in the background: 1 process\n"
            _done(busy, len(_done(busy)) + 1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert not (folder / "data" / "admin.key").exists()
    assert query(busy, "SELECT name FROM farthing.runs GROUP BY name HAVING count(*) > 1") == []


def test_a_worker_without_a_database_of_its_own_says_what_it_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "farthing.cli.main", "worker", "--data", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "needs database.url" in done.stderr
    assert "farthing up" in done.stderr


def test_a_reload_gives_them_the_new_settings(busy: Installation) -> None:
    before = set(_background(busy, 1))
    settings = yaml.safe_load(busy.settings.read_text(encoding="utf-8"))
    settings["jobs"]["workers"] = 2
    busy.settings.write_text(yaml.safe_dump(settings), encoding="utf-8")
    os.kill(busy.pid, signal.SIGHUP)
    assert len(_background(busy, 2, without=before)) == 2
    eventually(lambda: not any(alive(pid) for pid in before), "the end of the old one")
    _done(busy, len(_done(busy)) + 1)
