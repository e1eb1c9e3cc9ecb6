"""The config store in files: the contract, several processes, processes that are killed, and files that somebody has damaged."""

import asyncio
import fcntl
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from farthing.errors import Conflict, Unavailable
from farthing.inprocess.config_file import FileConfig
from farthing.testing.config import ConfigStoreContract, Shared

_WRITER = """
import asyncio, sys
from pathlib import Path
from farthing.errors import Conflict
from farthing.inprocess.config_file import FileConfig

async def main(folder, who, times):
    store = FileConfig(Path(folder), timeout_s=60)
    done = 0
    while done < int(times):
        seen = await store.read("modes")
        counts = dict(seen.body["counts"]) if seen else {}
        counts[who] = counts.get(who, 0) + 1
        try:
            await store.write("modes", {"counts": counts}, expect=seen.version if seen else 0, by=who, reason="")
        except Conflict:
            continue
        done += 1
        print(done, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(store=FileConfig(tmp_path / "made" / "config", kept=200), other=FileConfig(tmp_path / "made" / "config", kept=200))


class TestConfigFiles(ConfigStoreContract):
    pass


def _writer(folder: Path, who: str, times: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _WRITER, str(folder), who, str(times)], stdout=subprocess.PIPE)


async def test_nothing_that_two_processes_write_at_once_is_lost(tmp_path: Path) -> None:
    writers = [_writer(tmp_path, who, 100) for who in ("ann", "bob")]
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    store = FileConfig(tmp_path)
    seen = await store.read("modes")
    assert seen is not None
    assert (seen.version, seen.body) == (200, {"counts": {"ann": 100, "bob": 100}})
    assert [one.version for one in await store.history("modes", 500)] == list(range(200, 0, -1))


async def test_a_writer_that_is_killed_leaves_a_whole_version_and_is_in_nobodys_way(tmp_path: Path) -> None:
    store = FileConfig(tmp_path)
    for round_ in range(5):
        writer = _writer(tmp_path, "ann", 10**9)
        assert writer.stdout is not None
        for _ in range(10 + round_):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        seen = await store.read("modes")
        assert seen is not None
        assert seen.body == {"counts": {"ann": seen.version - round_, **({"bob": round_} if round_ else {})}}
        counts = {**seen.body["counts"], "bob": round_ + 1}  # type: ignore[dict-item]  # written by the other process
        await store.write("modes", {"counts": counts}, expect=seen.version, by="bob", reason="")
        assert _drafts(tmp_path) == [], "drafts of the dead are cleared away"
    assert [one.version for one in await store.history("modes", 10**6)][-1] == 1


def _drafts(folder: Path) -> list[Path]:
    return list(folder.glob("*.new"))


async def test_old_versions_go(tmp_path: Path) -> None:
    store = FileConfig(tmp_path, kept=3)
    for number in range(5):
        await store.write("modes", {"n": number}, expect=number, by="", reason="")
    assert [one.body for one in await store.history("modes", 99)] == [{"n": 4}, {"n": 3}, {"n": 2}]


async def test_files_are_for_their_owner_only(tmp_path: Path) -> None:
    await FileConfig(tmp_path / "config").write("modes", {}, expect=0, by="", reason="")
    assert stat.S_IMODE((tmp_path / "config").stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "config").iterdir()}
    assert files == {"modes.jsonl": 0o600, "modes.lock": 0o600}


_OTHERS = b'{"name": "other", "version": 1, "body": {}, "at": "2026-01-01T00:00:00Z", "by": ""}\n'


@pytest.mark.parametrize("damage", [b"", b"{", b"[]\n", b"\xff\xfe\n", _OTHERS, b"[" * 99_999])
async def test_a_damaged_file_is_told_and_not_written_over(tmp_path: Path, damage: bytes) -> None:
    store = FileConfig(tmp_path)
    await store.write("modes", {"n": 1}, expect=0, by="", reason="")
    path = tmp_path / "modes.jsonl"
    whole = path.read_bytes()
    path.write_bytes(damage)
    for call in (store.read("modes"), store.write("modes", {}, expect=None, by="", reason="")):
        with pytest.raises(Unavailable, match=r"modes\.jsonl is damaged"):
            await call
    assert path.read_bytes() == damage
    assert await store.history("modes", 9) == []
    path.write_bytes(whole)
    assert (await store.write("modes", {"n": 2}, expect=1, by="", reason="")).version == 2


async def test_a_lock_that_is_held_is_waited_for_and_not_without_end(tmp_path: Path) -> None:
    store = FileConfig(tmp_path, timeout_s=0.2)
    await store.write("modes", {"n": 1}, expect=0, by="", reason="")
    with (tmp_path / "modes.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unavailable):
            await store.write("modes", {"n": 2}, expect=1, by="", reason="")
        patient = FileConfig(tmp_path, timeout_s=30)
        writing = asyncio.create_task(patient.write("modes", {"n": 3}, expect=1, by="", reason=""))
        seen = await FileConfig(tmp_path).read("modes")
        assert seen is not None, "readers wait for nobody"
        assert seen.version == 1
        fcntl.flock(held, fcntl.LOCK_UN)
        assert (await writing).version == 2


async def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FileConfig(tmp_path / "file")
    for call in (store.read("modes"), store.history("modes", 1), store.write("modes", {}, expect=None, by="", reason="")):
        with pytest.raises(Unavailable, match="cannot be used"):
            await call


async def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "modes.lock").symlink_to(elsewhere)
    with pytest.raises(Unavailable):
        await FileConfig(tmp_path / "config").write("modes", {}, expect=0, by="", reason="")
    assert not elsewhere.exists()


async def test_who_gave_up_waiting_may_try_again(tmp_path: Path) -> None:
    store = FileConfig(tmp_path)
    writing = asyncio.create_task(store.write("modes", {"n": 1}, expect=0, by="", reason=""))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    try:
        made = await store.write("modes", {"n": 2}, expect=0, by="", reason="")
        assert made.version == 1
    except Conflict:
        seen = await store.read("modes")
        assert seen is not None
        assert seen.body == {"n": 1}
