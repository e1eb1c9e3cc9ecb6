"""Credentials from botocore's own chain: environment, files, a program, the container service; and what happens when there are none."""

from __future__ import annotations

import asyncio
import gc
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from farthing.aws import credentials
from farthing.aws.credentials import FoundCredentials, GivenCredentials, Keys
from farthing.errors import UpstreamRefusedUs, UpstreamTimeout, UpstreamUnavailable


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that knows nothing of AWS, and has no instance metadata."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def found(profile: str | None = None, deadline_s: float = 10) -> FoundCredentials:
    return FoundCredentials("up", region="eu-central-1", profile=profile, deadline_s=deadline_s)


def program(tmp_path: Path, code: str) -> None:
    """Make a program the source of credentials."""
    (tmp_path / "program.py").write_text(code, encoding="utf-8")
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {sys.executable} {tmp_path / 'program.py'}\n", encoding="utf-8")


def counting(tmp_path: Path, *, lasts: timedelta) -> str:
    """A program whose credentials say how often it was run."""
    return f"""
import datetime, json, pathlib
count = pathlib.Path({str(tmp_path / "count")!r})
number = len(count.read_text()) + 1 if count.exists() else 1
count.write_text("." * number)
ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds={lasts.total_seconds()})
keys = {{"Version": 1, "AccessKeyId": f"ASIA{{number}}", "SecretAccessKey": "s", "SessionToken": "t"}}
print(json.dumps({{**keys, "Expiration": ends.isoformat()}}))
"""


async def test_the_environment_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t0ken")
    one = found()
    assert await one.current() == Keys(access_key_id="AKIA1", secret_access_key="s3cret", session_token="t0ken")
    assert sorted(one.secrets()) == ["AKIA1", "s3cret", "t0ken"]


async def test_a_profile_is_looked_at_and_its_new_keys_are_found_when_the_old_ones_have_expired(tmp_path: Path) -> None:
    def write(number: int) -> None:
        (tmp_path / "credentials").write_text(f"[ops]\naws_access_key_id = AKIA{number}\naws_secret_access_key = s\n", encoding="utf-8")

    write(1)
    one = found("ops")
    assert (await one.current()).access_key_id == "AKIA1"
    write(2)
    assert (await one.current()).access_key_id == "AKIA1", "nothing is read anew without a reason"
    assert one.renew("AKIA1")
    assert (await one.current()).access_key_id == "AKIA2"
    assert one.renew("AKIA1"), "of someone who was late: they are replaced already"
    assert one._keys is not None


async def test_keys_that_last_are_kept_and_one_look_serves_all(tmp_path: Path) -> None:
    program(tmp_path, counting(tmp_path, lasts=timedelta(hours=1)))
    one = found()
    keys = await asyncio.gather(*(one.current() for _ in range(20)))
    assert {key.access_key_id for key in keys} == {"ASIA1"}
    assert (await one.current()).access_key_id == "ASIA1"


async def test_keys_that_run_out_soon_are_used_while_others_are_got(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, counting(tmp_path, lasts=timedelta(minutes=5)))
    monkeypatch.setattr(credentials, "_PAUSE_S", 0.0)
    one = found()
    first = await one.current()
    assert await one.current() is first, "still good for minutes: nobody waits"
    assert one._looking is not None
    await one._looking
    assert (await one.current()).access_key_id > first.access_key_id
    if one._looking is not None:
        await one._looking


async def test_keys_that_have_run_out_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, counting(tmp_path, lasts=timedelta(seconds=30)))
    monkeypatch.setattr(credentials, "_PAUSE_S", 0.0)
    one = found()
    assert len({(await one.current()).access_key_id for _ in range(3)}) == 3


async def test_no_credentials_anywhere_is_for_the_operator_to_mend(caplog: pytest.LogCaptureFixture) -> None:
    one = found()
    for _ in range(3):
        with pytest.raises(UpstreamRefusedUs, match=r"providers\.up"):
            await one.current()
    assert caplog.text.count("NoCredentialsError") == 1, "a failure is remembered for a moment"


async def test_an_unknown_profile_is_for_the_operator_to_mend() -> None:
    with pytest.raises(UpstreamRefusedUs, match="ProfileNotFound"):
        await found("nobody").current()


async def test_a_program_that_hangs_makes_nobody_wait_beyond_the_deadline_nor_starts_twice(tmp_path: Path) -> None:
    program(tmp_path, "import time; time.sleep(1)")
    one = found(deadline_s=0.2)
    for _ in range(2):
        with pytest.raises(UpstreamTimeout):
            await one.current()
    assert [thread.name for thread in threading.enumerate()].count("AWS credentials of up") == 1
    assert one._looking is not None
    with pytest.raises(json.JSONDecodeError):
        await one._looking
    gc.collect()


async def test_a_program_that_fails_is_a_trouble_that_may_pass(tmp_path: Path) -> None:
    program(tmp_path, "raise SystemExit('no luck')")
    with pytest.raises(UpstreamUnavailable) as caught:
        await found().current()
    assert "no luck" not in caught.value.message


class Role(http.server.BaseHTTPRequestHandler):
    """The container service of ECS and EKS."""

    def do_GET(self) -> None:
        ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        body = {"AccessKeyId": "ASIAROLE", "SecretAccessKey": "s", "Token": f"for {self.headers['authorization']}", "Expiration": ends}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def role() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Role) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/role"
        server.shutdown()
        thread.join()


async def test_the_role_of_a_container_is_looked_at(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", role)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "me")
    assert await found().current() == Keys(access_key_id="ASIAROLE", secret_access_key="s", session_token="for me")


async def test_given_keys_stay_as_they_are() -> None:
    one = GivenCredentials(Keys(access_key_id="AKIA1", secret_access_key="s"))
    assert not one.renew("AKIA1")
    assert (await one.current()).access_key_id == "AKIA1"


def test_keys_do_not_show_themselves() -> None:
    keys = Keys(access_key_id="AKIA1", secret_access_key="s3cret", session_token="t0ken")
    assert not any(text in f"{keys} {keys!r}" for text in ("AKIA1", "s3cret", "t0ken"))


def test_the_refusals_are_errors_that_botocore_has() -> None:
    named = credentials.REFUSALS
    assert [name for name in named if not hasattr(botocore.exceptions, name)] == []
