"""The limits' file among real processes: they hold together, and nobody's death spoils it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from farthing.spend.limit_table import LimitTable
from farthing.spend.limits import KeyLimits
from farthing.types import Limits, new_id

_OVERLOOKED = 2
"""Who holds a lock and does not get the processor for 20 ms is not waited for: on a machine this busy that costs a request."""
_WORKER = Path(__file__).with_name("one_worker.py")


class Passed(NamedTuple):
    """A request that passed: when it asked, came in and left."""

    asked: float
    came: float
    left: float


class Crew:
    """Processes on one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = new_id().bytes
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, limits: Limits, seconds: float, hold_s: float = 0.0) -> subprocess.Popen[bytes]:
        """A worker that begins when it is told."""
        text = msgspec.json.encode(limits).decode()
        command = [sys.executable, str(_WORKER), str(self.folder), self.key.hex(), text, str(seconds), str(hold_s)]
        with self._output(len(self.all)).open("wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out)
        self.all.append(process)
        return process

    def _output(self, number: int) -> Path:
        return self.folder / f"out-{number}"

    def says(self, process: subprocess.Popen[bytes], word: str) -> None:
        """Wait until it does."""
        until = time.monotonic() + 30
        while word not in self._output(self.all.index(process)).read_text().splitlines():
            assert time.monotonic() < until, f"the worker never said {word!r}"
            time.sleep(0.005)

    def go(self, *processes: subprocess.Popen[bytes]) -> None:
        for process in processes:
            self.says(process, "ready")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()

    def passed(self) -> list[Passed]:
        """When which requests were inside, once all have ended. None passed uncounted."""
        found = []
        for number, process in enumerate(self.all):
            process.wait(60)
            lines = self._output(number).read_text().splitlines()
            assert process.returncode != 0 or lines[-1] == "uncounted 0"
            found += [Passed(*map(float, line.split())) for line in lines if line[0].isdigit()]
        return sorted(found)

    def here(self) -> KeyLimits:
        """A worker in this process."""
        return KeyLimits(LimitTable(self.folder, rows=64, columns=16), max_wait_s=10)


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    one = Crew(tmp_path)
    yield one
    for process in one.all:
        process.kill()
        process.wait()
        assert process.stdin is not None
        process.stdin.close()


def within_the_rate(passed: list[Passed], limit: int, lost: int = 0) -> None:
    """In no window more than the limit, what flows in meanwhile, and what four workers had taken ahead.

    And no fewer than could have passed, but for those `lost` by a kill.
    """
    ahead = 4 * (limit // 600)
    for first in passed[:: max(1, len(passed) // 60)]:
        inside = sorted(one.came for one in passed if one.asked >= first.asked)
        for count, came in enumerate(inside, 1):
            assert count <= limit + (came - first.asked) * limit / 60 + ahead + _OVERLOOKED
    begin, end = passed[0].came, max(one.asked for one in passed)
    assert len(passed) >= limit + (end - begin) * limit / 60 - lost - 5


def most_inside(passed: list[Passed]) -> int:
    """How many were inside at the same time."""
    steps = sorted([(one.came, 1) for one in passed] + [(one.left, -1) for one in passed])
    inside = most = 0
    for _, step in steps:
        inside += step
        most = max(most, inside)
    return most


@pytest.mark.parametrize("limit", [1100, 12_000])
def test_four_processes_share_one_minute(crew: Crew, limit: int) -> None:
    crew.go(*[crew.start(Limits(requests_per_minute=limit), 0.6) for _ in range(4)])
    within_the_rate(crew.passed(), limit)


def test_one_process_of_four_may_use_all_of_it(crew: Crew) -> None:
    limits = Limits(requests_per_minute=500)
    idle = [crew.start(limits, 0.0) for _ in range(3)]
    crew.go(*idle, crew.start(limits, 0.2))
    assert len(crew.passed()) >= 500


def test_four_processes_never_have_more_under_way_than_they_may(crew: Crew) -> None:
    limits = Limits(concurrency=3)
    crew.go(*[crew.start(limits, 0.8, 0.001) for _ in range(4)])
    passed = crew.passed()
    assert most_inside(passed) == 3
    here = crew.here()
    assert [here.enter(crew.key, limits, 1.0, behind=False) for _ in range(4)] == [True, True, True, False]


def test_four_processes_that_take_places_ahead_never_have_more_under_way_than_they_may(crew: Crew) -> None:
    limits = Limits(concurrency=64)
    crew.go(*[crew.start(limits, 0.5, 0.0) for _ in range(3)])
    here = crew.here()
    held = [here.enter(crew.key, limits, 1.0, behind=False) for _ in range(62)]
    assert most_inside(crew.passed()) <= 64 - held.count(True) or not all(held)
    assert [here.advance(crew.key, limits, 1.0) for _ in range(65 - held.count(True))].count(True) == 64 - held.count(True)


def test_what_a_killed_process_had_under_way_is_free_at_once(crew: Crew) -> None:
    limits, here = Limits(concurrency=2), crew.here()
    holders = [crew.start(limits, -60) for _ in range(2)]
    crew.go(*holders)
    for holder in holders:
        crew.says(holder, "holding")
    assert not here.enter(crew.key, limits, 1.0, behind=False)
    holders[0].kill()
    holders[0].wait()
    assert here.enter(crew.key, limits, 1.0, behind=False)
    assert not here.enter(crew.key, limits, 1.0, behind=False)
    again = crew.start(limits, -60)  # takes the dead one's place in the file, and not what it held
    crew.go(again)
    here.leave(crew.key)
    crew.says(again, "holding")
    assert not here.enter(crew.key, limits, 1.0, behind=False)


def test_kills_in_the_middle_of_everything_spoil_nothing(crew: Crew) -> None:
    limits = Limits(requests_per_minute=60_000, concurrency=4)
    steady = [crew.start(limits, 1.5) for _ in range(2)]
    victims = [crew.start(limits, 30.0) for _ in range(4)]
    crew.go(*steady)
    for number, victim in enumerate(victims):
        crew.go(victim)
        time.sleep(0.02 + 0.0137 * number)
        victim.kill()
    passed = crew.passed()
    assert len(passed) <= 60_000 + (max(one.came for one in passed) - passed[0].asked) * 1000
    assert most_inside(passed) <= 4
    here = crew.here()
    assert [here.advance(crew.key, limits, 1.0) for _ in range(5)] == [True, True, True, True, False]


def test_kills_lose_nothing_of_the_minute_but_the_killed_request_and_what_was_taken_ahead(crew: Crew) -> None:
    limits, kills = Limits(requests_per_minute=2000), 3
    victims = [crew.start(limits, 30.0) for _ in range(kills)]
    for victim in victims:
        crew.go(victim)
        time.sleep(0.01)
        victim.kill()
    crew.go(crew.start(limits, 0.5))
    within_the_rate(crew.passed(), 2000, lost=kills * 4)


def test_a_process_that_is_stopped_does_not_stop_the_others(crew: Crew) -> None:
    limits = Limits(requests_per_minute=60_000, concurrency=4)
    stopped = crew.start(limits, 30.0)
    crew.go(stopped)
    here = crew.here()
    for _ in range(10):
        time.sleep(0.005)
        stopped.send_signal(signal.SIGSTOP)
        assert here.enter(crew.key, limits, 1.0, behind=False)
        here.leave(crew.key)
        stopped.send_signal(signal.SIGCONT)
