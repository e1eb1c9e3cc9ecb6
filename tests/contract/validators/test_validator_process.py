"""Validators in processes of their own, and everything that can go wrong in them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from farthing.routing.checks.placed import CannotTell
from farthing.routing.checks.validator import ValidatorProcess, launch
from farthing.types import Json

_SOON_S = 0.5
_LONG_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.processes: list[ValidatorProcess] = []

    def of(self, function: str, memory_mb: int = 1024) -> ValidatorProcess:
        self.processes.append(ValidatorProcess(function, memory_mb, clock=self.clock))
        return self.processes[-1]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    for process in rig.processes:
        await process.close()


async def test_a_function_says_yes_and_no_and_sees_the_request(rig: Rig) -> None:
    polite = rig.of("house_rules:polite")
    assert await polite.ask("Yes, please.", {}, _LONG_S) is None
    assert await polite.ask("No.", {"user": "ann"}, _LONG_S) == "the validator says no"
    assert await polite.ask("No.", {"user": "rude"}, _LONG_S) is None


async def test_a_reason_is_one_short_line(rig: Rig) -> None:
    assert await rig.of("house_rules:reasoned").ask("no end", {}, _LONG_S) == "no full stop at the end"
    said = await rig.of("house_rules:on_demand").ask("long", {}, _LONG_S)
    assert said is not None
    assert len(said) <= 200


@pytest.mark.parametrize("function", ["house_rules:slow_service", "house_rules:strict"])
async def test_an_asynchronous_function_takes_several_calls_at_once(rig: Rig, function: str) -> None:
    process = rig.of(function)
    await process.ask("first", {}, _LONG_S)
    loop = asyncio.get_running_loop()
    began = loop.time()
    said = await asyncio.gather(*(process.ask("" if at == 3 else "good", {}, _LONG_S) for at in range(16)))
    assert said.count(None) >= 15
    assert loop.time() - began < 16 * 0.2, "one after the other would take as long"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("raise", "it raised RuntimeError"),
        ("leave", "it raised SystemExit"),
        ("crash", "its process ended"),
        ("hang", "it took longer than"),
        ("sleep", "it took longer than"),
        ("close", "ended|longer"),
        ("number", "it returned int"),
        ("zero", "it returned int"),
        ("list", "it returned list"),
        ("empty", "it returned an empty text"),
        ("bytes", "it returned bytes"),
    ],
)
async def test_what_goes_wrong_is_said_and_the_next_call_is_answered(rig: Rig, answer: str, said: str) -> None:
    process = rig.of("house_rules:on_demand")
    assert await process.ask("fine", {}, _LONG_S) is None
    with pytest.raises(CannotTell, match=said):
        await process.ask(answer, {}, _SOON_S)
    assert await process.ask("fine", {}, _LONG_S) is None


async def test_what_it_prints_is_not_taken_for_an_answer(rig: Rig) -> None:
    process = rig.of("house_rules:on_demand")
    assert await process.ask("print", {}, _LONG_S) is None
    assert await process.ask("fine", {}, _LONG_S) is None


async def test_memory_without_end_is_its_own_trouble(rig: Rig) -> None:
    process = rig.of("house_rules:on_demand", memory_mb=256)
    with pytest.raises(CannotTell, match=r"MemoryError|ended"):
        await process.ask("hoard", {}, _LONG_S)


async def test_our_variables_are_not_in_its_environment(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARTHING_PROVIDERS__OPENAI__API_KEY", "sk-secret")
    assert await rig.of("house_rules:on_demand").ask("secrets", {}, _LONG_S) is None


async def test_texts_that_json_cannot_hold_are_said_to_be_so(rig: Rig) -> None:
    process = rig.of("house_rules:on_demand")
    with pytest.raises(CannotTell):
        await process.ask("\ud800", {}, _LONG_S)
    assert await process.ask("surrogate", {}, _LONG_S) == "?"
    deep: Json = {}
    for _ in range(5_000):
        deep = {"a": deep}
    with pytest.raises(CannotTell):
        await process.ask("fine", deep, _LONG_S)
    with pytest.raises(CannotTell, match="too large"):
        await process.ask("x" * 9 * 2**20, {}, _LONG_S)
    assert await process.ask("fine", {}, _LONG_S) is None


async def test_one_that_fails_time_and_again_is_left_alone_for_a_while(rig: Rig) -> None:
    process = rig.of("house_rules:on_demand")
    for _ in range(2):
        with pytest.raises(CannotTell, match="ended"):
            await process.ask("crash", {}, _LONG_S)
    with pytest.raises(CannotTell, match="left alone"):
        await process.ask("fine", {}, _LONG_S)
    rig.clock.now += 1.0
    assert await process.ask("fine", {}, _LONG_S) is None
    with pytest.raises(CannotTell, match="ended"):
        await process.ask("crash", {}, _LONG_S)
    assert await process.ask("fine", {}, _LONG_S) is None, "a good answer makes up for the failures before"


async def test_a_hang_costs_those_behind_it_no_more_than_their_own_time(rig: Rig) -> None:
    process = rig.of("house_rules:on_demand")
    await process.ask("fine", {}, _LONG_S)
    said = await asyncio.gather(
        process.ask("hang", {}, _SOON_S), *(process.ask("fine", {}, _LONG_S) for _ in range(5)), return_exceptions=True
    )
    assert isinstance(said[0], CannotTell)
    assert [isinstance(one, CannotTell) or one is None for one in said[1:]] == [True] * 5
    assert said.count(None) >= 4, "they waited for their turn and got it in another process"


async def test_too_many_that_wait_are_told_so_at_once(rig: Rig) -> None:
    process = rig.of("house_rules:on_demand")
    await process.ask("fine", {}, _LONG_S)
    said = await asyncio.gather(*(process.ask("sleep", {}, _SOON_S) for _ in range(300)), return_exceptions=True)
    assert sum("too many" in str(one) for one in said) == 300 - 256


async def test_who_goes_away_takes_nobody_down(rig: Rig) -> None:
    process = rig.of("house_rules:slow_service")
    await process.ask("good", {}, _LONG_S)
    leaving = asyncio.create_task(process.ask("good", {}, _LONG_S))
    staying = asyncio.create_task(process.ask("bad", {}, _LONG_S))
    await asyncio.sleep(0.05)
    leaving.cancel()
    assert await staying == "the validator says no"


async def test_at_the_end_the_process_is_gone(rig: Rig) -> None:
    process = rig.of("house_rules:on_demand")
    process.start()
    await process.ask("fine", {}, _LONG_S)
    assert process._running is not None
    pid = process._running._process.pid
    os.kill(pid, 0)
    await process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


_PARENT = """
import asyncio, os, signal
from farthing.routing.checks.validator import ValidatorProcess

async def main():
    process = ValidatorProcess("house_rules:on_demand", 1024)
    await process.ask("fine", {}, 20.0)
    hanging = asyncio.create_task(process.ask("hang", {}, 50.0))
    await asyncio.sleep(0.2)
    print(process._running._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_when_the_worker_is_killed_a_hanging_validator_goes_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", _PARENT], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid = int(done.stdout)
    until = time.monotonic() + 20
    while _alive(pid):
        assert time.monotonic() < until, "it outlived its worker"
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and was not waited for is still in the table."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


@pytest.mark.parametrize(
    ("entry_point", "said"),
    [
        ("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("house_rules:none", "AttributeError"),
        ("house_rules:not_a_function", "is not a function"),
        ("explosive:f", "SystemExit: 7"),
        ("nobody-registered-this", "no installed package registers 'nobody-registered-this'"),
    ],
)
async def test_what_cannot_be_loaded_says_why(rig: Rig, entry_point: str, said: str) -> None:
    with pytest.raises(CannotTell, match=said):
        await launch(entry_point, 1024)
    with pytest.raises(CannotTell):
        await rig.of(entry_point).ask("fine", {}, _LONG_S)
