"""The local chat model's process under its supervisor: killed, frozen, orphaned, stopped; each time on the real engine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
import uvloop

from farthing.errors import Unavailable
from farthing.providers.local.chat_server import KEY_VARIABLE
from farthing.providers.local.supervisor import ChatEngine, ChatServer, Supervision
from farthing.providers.local.weights import SMOLLM2, locate

QUICK = Supervision(check_interval_s=0.1, check_timeout_s=0.5, failed_checks=2, backoff_s=0.05, max_backoff_s=0.2, grace_s=2.0)
UP_S = 30.0


def engine(model: Path | None = None) -> ChatEngine:
    return ChatEngine(model=model or locate(SMOLLM2), alias=SMOLLM2.name, parallel=1, context=512, connections=8)


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    made = ChatServer(engine(), QUICK)
    await made.start()
    await made.wait_ready(UP_S)
    yield made
    await made.aclose()


async def ask(server: ChatServer) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 4}
    async with httpx.AsyncClient(base_url=server.base_url, timeout=20, trust_env=False) as client:
        return await client.post("/chat/completions", json=body, headers={"authorization": f"Bearer {server.api_key}"})


def proc(server: ChatServer, file: str) -> bytes:
    return Path(f"/proc/{server.pid}/{file}").read_bytes()


def stranger() -> socket.socket:
    """A socket that does not mind connections of the past on its port, as servers' sockets do not."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made


async def until(condition: Callable[[], bool], timeout_s: float = UP_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what it waits for happens in other processes, which set no event
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_killed_process_comes_back_on_the_same_port_with_the_same_key(server: ChatServer) -> None:
    before = server.pid, server.base_url, server.api_key
    assert before[0] is not None
    assert (await ask(server)).json()["model"] == SMOLLM2.name
    os.kill(before[0], signal.SIGKILL)
    await until(lambda: not server.ready)
    await server.wait_ready(UP_S)
    assert (server.base_url, server.api_key) == before[1:]
    assert server.pid not in {None, before[0]}
    assert server.restarts == 1
    assert (await ask(server)).status_code == 200


async def test_a_frozen_process_is_noticed_and_replaced(server: ChatServer) -> None:
    frozen = server.pid
    assert frozen is not None
    os.kill(frozen, signal.SIGSTOP)
    await until(lambda: server.restarts == 1)
    await server.wait_ready(UP_S)
    assert not alive(frozen)
    assert (await ask(server)).status_code == 200


async def test_the_key_is_in_no_argument_and_other_secrets_are_not_handed_down(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-children")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: server.restarts == 1 and server.ready)
    assert server.api_key.encode() not in proc(server, "cmdline")
    assert b"sk-not-for-children" not in proc(server, "environ")


async def test_no_stranger_can_take_the_port_between_two_lives(server: ChatServer) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: not server.ready)
    with stranger() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", server.port))
    await server.wait_ready(UP_S)


async def test_closing_stops_the_process_and_gives_the_port_back() -> None:
    server = ChatServer(engine(), QUICK)
    await server.start()
    await server.wait_ready(UP_S)
    pid, port = server.pid, server.port
    await server.aclose()
    await server.aclose()
    assert pid is not None
    assert not alive(pid)
    assert not server.ready
    with stranger() as other:
        other.bind(("127.0.0.1", port))


async def test_closing_while_it_starts_leaves_no_process() -> None:
    server = ChatServer(engine(), QUICK)
    await server.start()
    await until(lambda: server.pid is not None)
    pid = server.pid
    await server.aclose()
    assert pid is not None
    assert not alive(pid)


async def test_an_engine_that_cannot_start_says_why_and_is_tried_again(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    server = ChatServer(engine(broken), QUICK)
    await server.start()
    await until(lambda: server.restarts >= 2)
    with pytest.raises(Unavailable, match="the engine did not start"):
        await server.wait_ready(0.01)
    await server.aclose()


def test_it_is_supervised_on_uvloop_too() -> None:
    async def killed_and_back() -> int:
        server = ChatServer(engine(), QUICK)
        await server.start()
        await server.wait_ready(UP_S)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: server.restarts == 1 and server.ready)
        status = (await ask(server)).status_code
        await server.aclose()
        return status

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(killed_and_back()) == 200


SUPERVISED = """
import asyncio
from farthing.providers.local.supervisor import ChatEngine, ChatServer
from farthing.providers.local.weights import SMOLLM2, locate

async def main():
    server = ChatServer(ChatEngine(model=locate(SMOLLM2), alias="a", parallel=1, context=512))
    await server.start()
    await server.wait_ready(30)
    print(server.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_it_dies_with_its_parent() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", SUPERVISED, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await asyncio.wait_for(parent.stdout.readline(), UP_S))
    assert alive(child)
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(child))


def _by_hand(port: int, *, parent: int, key: str | None) -> subprocess.Popen[bytes]:
    words = ["--model", str(locate(SMOLLM2)), "--alias", "a", "--port", str(port), "--parent", str(parent), "--ctx-size", "512"]
    environment = {"PATH": os.environ["PATH"]} | ({KEY_VARIABLE: key} if key else {})
    command = [sys.executable, "-P", "-m", "farthing.providers.local.chat_server", *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def test_it_exits_0_on_sigterm_with_a_generation_under_way() -> None:
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        transport = httpx.HTTPTransport(retries=10)  # connections, with growing pauses, while it starts
        with _by_hand(port, parent=os.getpid(), key="k") as process, httpx.Client(transport=transport, trust_env=False) as client:
            story = {"messages": [{"role": "user", "content": "A long story."}], "stream": True, "ignore_eos": True, "max_tokens": 400}
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            with client.stream("POST", url, json=story, headers={"authorization": "Bearer k"}, timeout=20) as response:
                next(response.iter_lines())
                process.send_signal(signal.SIGTERM)
                try:
                    assert process.wait(timeout=60) == 0
                finally:
                    process.kill()


@pytest.mark.parametrize(("parent", "key", "status"), [("self", None, 2), ("other", "k", 1)])
def test_it_refuses_to_run_without_a_key_or_without_its_parent(parent: str, key: str | None, status: int) -> None:
    with _by_hand(0, parent=os.getpid() if parent == "self" else 1, key=key) as process:
        assert process.wait(timeout=UP_S) == status
