"""What survives a stop and a start on the same data, and what a second start on them says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import scripted
from inside import add_up, ask, new_key, processes_of, query, settled
from openai import OpenAI

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, completion, stream, usage_object

_LONG = [f"word{number} " for number in range(20)]


class Before:
    """An installation that was stopped and started again, and what it had answered before that."""

    def __init__(self, farthing: Installation) -> None:
        self.farthing = farthing
        self.admin_key = farthing.key
        made = new_key(farthing, "acme")
        self.key, self.key_id = made["key"], made["id"]
        self.whole = ask(farthing, self.key, "kept whole")
        self.streamed = ask(farthing, self.key, "kept as a stream", model="strong", stream=True)
        self.embedded = self.embed()

    def embed(self) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.post(f"{self.farthing.base_url}/embeddings", json={"model": "vectors", "input": ["a", "b"]}, headers=headers)


@pytest.fixture(scope="module")
def again(folders: Path, upstream: ScriptedUpstream) -> Iterator[Before]:
    upstream.script("fast", completion("A small coin.", usage=usage_object(1000, 500)))
    upstream.script("strong", stream(_LONG))
    settings = scripted(upstream)
    settings["models"]["vectors"] = {"provider": "up", "upstream_model": "vectors", "kind": "embeddings"}  # type: ignore[index]
    farthing = Installation(folders / "again", settings)
    with farthing:
        before = Before(farthing)
    upstream.script("fast", completion("Another answer."))
    upstream.script("strong", stream(["Another answer."]))
    with farthing:
        yield before
    upstream.script("fast")
    upstream.script("strong")


def test_the_exact_cache_answers_from_postgres(again: Before) -> None:
    assert [answer.headers["x-farthing-source"] for answer in (again.whole, again.streamed, again.embedded)] == ["model"] * 3
    hit = ask(again.farthing, again.key, "kept whole")
    assert hit.headers["x-farthing-source"] == "exact"
    assert hit.json()["choices"] == again.whole.json()["choices"]
    assert hit.headers["x-farthing-saved-usd"] == again.whole.headers["x-farthing-cost-usd"] == "0.002000"
    assert again.embed().headers["x-farthing-source"] == "exact"


def test_whole_and_streamed_answers_serve_each_other_from_postgres(again: Before) -> None:
    with OpenAI(base_url=again.farthing.base_url, api_key=again.key, max_retries=0) as client:
        raw = client.chat.completions.with_raw_response.create(model="strong", messages=[{"role": "user", "content": "kept as a stream"}])
        assert raw.headers["x-farthing-source"] == "exact"
        assert raw.parse().choices[0].message.content == "".join(_LONG)
        streamed = client.chat.completions.with_raw_response.create(
            model="fast", messages=[{"role": "user", "content": "kept whole"}], stream=True
        )
        assert streamed.headers["x-farthing-source"] == "exact"
        text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed.parse())
    assert text == "A small coin."
    again_streamed = ask(again.farthing, again.key, "kept as a stream", model="strong", stream=True)
    assert again_streamed.headers["x-farthing-source"] == "exact"
    assert again_streamed.text.count('"content":"word') == len(_LONG)


def test_keys_and_ledger_stay(again: Before) -> None:
    farthing = again.farthing
    assert farthing.key == again.admin_key
    assert (farthing.data / "admin.key").stat().st_mode & 0o777 == 0o600
    admins = query(farthing, "SELECT id FROM farthing.keys WHERE admin")
    assert len(admins) == 1
    said = farthing.log.read_text(encoding="utf-8")
    assert said.count(again.admin_key) == 1
    ids = [answer.headers["x-request-id"] for answer in (again.whole, again.streamed, again.embedded)]
    rows = settled(farthing, ids)
    assert [rows[one][0]["key_id"].hex for one in ids] == [again.key_id.replace("-", "")] * 3
    assert rows[ids[0]][0]["cost_microusd"] == 2000
    add_up(farthing)


def test_a_second_start_on_the_same_data_says_so(again: Before) -> None:
    second = again.farthing.cli("up", "--port", "0", check=False)
    assert second.returncode == 1
    assert "another `farthing up` is running on" in second.stderr
    assert "--data" in second.stderr
    assert "Traceback" not in second.stderr
    assert again.farthing.get("/readyz")[0] == 200


def test_a_start_on_a_port_that_is_taken_says_so(again: Before) -> None:
    farthing = again.farthing
    other = farthing.folder / "other"
    second = farthing.cli("up", "--port", str(farthing.port), "--data", str(other), check=False)
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{farthing.port}" in second.stderr
    assert "--port" in second.stderr
    assert "Traceback" not in second.stderr
    assert not [command for command in processes_of(farthing) if str(other) in command]


def test_a_start_where_nothing_may_be_written_says_so(again: Before) -> None:
    file = again.farthing.folder / "a-file"
    file.write_text("not a folder", encoding="utf-8")
    second = again.farthing.cli("up", "--port", "0", "--data", str(file), check=False)
    assert second.returncode == 1
    assert str(file) in second.stderr
    assert "Traceback" not in second.stderr


def test_a_start_on_a_full_disk_says_so_and_leaves_no_half_key(again: Before) -> None:
    """A file that may not grow stands for the disk."""
    data = again.farthing.folder / "full"
    up = [sys.executable, "-m", "farthing.cli.main", "up", "--port", "0", "--data", str(data), "--settings", str(again.farthing.settings)]
    limited = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *up]
    done = subprocess.run(limited, capture_output=True, text=True, check=False, timeout=60, cwd=again.farthing.folder)
    assert done.returncode == 1, done.stderr
    assert f"cannot start on the data folder {data}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (data / "admin.key").exists()
