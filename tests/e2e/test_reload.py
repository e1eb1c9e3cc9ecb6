"""SIGHUP and `farthing reload`: new settings without a lost request; wrong ones, or workers that do not get ready, change nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
import yaml
from conftest import scripted
from inside import add_up, alone, ask, eventually, new_key, once_each
from postgres_proxy import Outpost, PostgresProxy, database_behind

from farthing.cli.reload import reload
from farthing.errors import Unavailable
from farthing.testing.installation import Installation
from farthing.testing.upstream import Received, Reply, ScriptedUpstream, completion, stream


@pytest.fixture(scope="module")
def proxied(gateway: Installation) -> Iterator[tuple[PostgresProxy, str]]:
    with database_behind(gateway, "reload") as found:
        yield found


@pytest.fixture(scope="module")
def outpost(folders: Path, upstream: ScriptedUpstream, gateway: Installation, proxied: tuple[PostgresProxy, str]) -> Iterator[Outpost]:
    settings = scripted(upstream, database={"probe_interval_s": 0.2}, ledger={"flush_interval_s": 0.05})
    with Outpost(folders / "reload", settings, gateway, proxied[1], "reload", workers=2) as running:
        yield running


@pytest.fixture
def settings(outpost: Outpost) -> Iterator[dict[str, Any]]:
    """The settings as a tree, to be changed and written; afterwards they are what they were."""
    text = outpost.settings.read_text(encoding="utf-8")
    yield yaml.safe_load(text)
    outpost.settings.write_text(text, encoding="utf-8")


def write(outpost: Outpost, settings: dict[str, Any]) -> None:
    outpost.settings.write_text(yaml.safe_dump(settings), encoding="utf-8")


def _unhurried(received: Received) -> Reply:
    text = received.body["messages"][-1]["content"]
    return stream([text, " ", "twice"], delay=0.1) if received.body.get("stream") else completion(text, delay=0.02)


class Load:
    """Clients without retries: some keep their connection, some make one for each request, some read streams."""

    def __init__(self, outpost: Outpost, key: str) -> None:
        self._url = f"{outpost.base_url}/chat/completions"
        self._headers = {"authorization": f"Bearer {key}"}
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False
        self.answered: list[str] = []
        self.closed = 0

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(9)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _client(self, number: int) -> None:
        count = 0
        while not self._over:
            async with httpx.AsyncClient(timeout=20, headers=self._headers) as client:
                for _ in range(1 if number % 3 == 0 else 10_000):
                    await self._one(client, f"load {number} {count}", streamed=number % 3 == 2)
                    count += 1
                    if self._over:
                        return

    async def _one(self, client: httpx.AsyncClient, text: str, *, streamed: bool) -> None:
        body = {"model": "fast", "stream": streamed, "messages": [{"role": "user", "content": text}]}
        answer = await client.post(self._url, json=body)
        assert answer.status_code == 200, answer.text
        assert "[DONE]" in answer.text if streamed else text in answer.text
        self.closed += answer.headers.get("connection") == "close"
        self.answered.append(answer.headers["x-request-id"])


async def test_no_request_is_lost_while_new_workers_with_new_settings_take_over(
    outpost: Outpost, settings: dict[str, Any], up: ScriptedUpstream
) -> None:
    up.script("fast", _unhurried)
    key = new_key(outpost, "reload")["key"]
    await asyncio.to_thread(eventually, lambda: [ask(outpost, key, "before").status_code for _ in range(4)] == [200] * 4, "the key")
    before = outpost.worker_pids()
    assert ask(outpost, key, "no such", model="newcomer").status_code == 404
    settings["models"]["newcomer"] = settings["models"]["strong"]
    settings["server"] = {"workers": 3}
    # These the supervisor holds itself.
    settings["data"] = "/nowhere"
    settings["local"] = {"enabled": False, "parallel": 9}
    settings["database"]["url"] = "postgresql://nobody@127.0.0.1:9/nothing"
    write(outpost, settings)
    async with Load(outpost, key) as load:
        await asyncio.sleep(0.3)
        done = await asyncio.to_thread(outpost.cli, "reload", "--data", str(outpost.data), "--json")
        assert json.loads(done.stdout) == {"reloaded": True, "waiting": ["data", "database.url", "local.parallel"]}
        await asyncio.to_thread(eventually, lambda: not set(before) & set(outpost.worker_pids()), "the end of the old workers")
    assert load.closed
    assert [ask(outpost, key, f"hello {n}", model="newcomer").status_code for n in range(6)] == [200] * 6
    once_each(outpost, load.answered)
    add_up(outpost)
    assert "these wait for a restart: data, database.url, local.parallel" in outpost.log.read_text(encoding="utf-8")
    # `--workers 2` of the command line goes over the file.
    assert len(outpost.worker_pids()) == 2


def test_wrong_settings_change_nothing(outpost: Outpost, settings: dict[str, Any]) -> None:
    before = outpost.worker_pids()
    settings["modells"] = {}
    write(outpost, settings)
    os.kill(outpost.pid, signal.SIGHUP)
    eventually(lambda: "settings not reloaded" in outpost.log.read_text(encoding="utf-8"), "the complaint")
    assert "did you mean 'models'?" in outpost.log.read_text(encoding="utf-8")
    outpost.settings.write_text("server: {port: [", encoding="utf-8")
    refused = outpost.cli("reload", check=False)
    assert (refused.returncode, "Traceback" in refused.stderr) == (1, False)
    assert str(outpost.settings) in refused.stderr
    # A worker that dies meanwhile is started again by the settings that were accepted.
    os.kill(before[0], signal.SIGKILL)
    [new] = eventually(lambda: set(outpost.worker_pids()) - set(before), "a new worker")
    with alone(outpost, new):  # until it is ready, the other one answers for it
        eventually(lambda: outpost.get("/readyz")[0] == 200, "the new worker ready")
    assert before[1] in outpost.worker_pids()


def test_workers_that_do_not_get_ready_do_not_take_over(
    outpost: Outpost, settings: dict[str, Any], proxied: tuple[PostgresProxy, str]
) -> None:
    proxy, _ = proxied
    before = set(outpost.worker_pids())
    settings["server"] = {"ready_s": 1}
    write(outpost, settings)
    proxy.away()
    try:
        eventually(lambda: b"database" in outpost.get("/readyz")[1], "degraded")
        with suppress(FileNotFoundError):
            (outpost.data / "snapshot" / "keys.jsonl").unlink()
        refused = outpost.cli("reload", check=False)
    finally:
        proxy.back()
    assert refused.returncode == 1
    assert "were not ready within 1 s (setting server.ready_s)" in refused.stderr
    assert set(outpost.worker_pids()) == before
    assert ask(outpost, outpost.key, "still served").status_code == 200


def test_workers_that_die_at_their_start_do_not_take_over(outpost: Outpost) -> None:
    before = set(outpost.worker_pids())
    run, aside = outpost.data / "run", outpost.data / "run.aside"
    run.rename(aside)
    run.write_text("a file where a folder must be", encoding="utf-8")
    try:
        refused = outpost.cli("reload", check=False)
    finally:
        run.unlink()
        aside.rename(run)
    assert refused.returncode == 1
    assert "a worker ended with status 1 before it was ready" in refused.stderr
    assert set(outpost.worker_pids()) == before
    assert ask(outpost, outpost.key, "served on").status_code == 200


def test_nobody_is_told_to_reload_where_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when a file says who did."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lock").touch()
    (tmp_path / "run.json").write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid()}), encoding="utf-8")
    with pytest.raises(Unavailable, match="Farthing is not running on"):
        reload(data=tmp_path)
