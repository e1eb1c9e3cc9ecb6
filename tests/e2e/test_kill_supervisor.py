"""kill -9 of the supervisor, and of everything at once: nothing goes on without it, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from inside import add_up, alive, ask, eventually, new_key, once_each, query

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream


@pytest.fixture
def slow_ledger(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    """Stores ledger entries at its start and at its end only: in between they are on disk."""
    price = {"input_usd_per_1m": 1, "output_usd_per_1m": 2}
    settings = {
        "local": {"enabled": False},
        "providers": {"up": {"kind": "openai_compatible", "base_url": upstream.base_url}},
        "models": {"fast": {"provider": "up", "upstream_model": "fast", "price": price}},
        "ledger": {"flush_interval_s": 3600},
    }
    with Installation(folders / "slow-ledger", settings, workers=2) as running:
        yield running


def _stored(farthing: Installation) -> int:
    return int(query(farthing, "SELECT count(*) AS n FROM farthing.ledger")[0]["n"])


def test_without_its_supervisor_no_worker_and_no_model_goes_on(crowd: Installation) -> None:
    key = new_key(crowd, "kill-supervisor")["key"]
    first = ask(crowd, key, "before")
    stored = "SELECT count(*) AS n FROM farthing.answers WHERE tenant = 'kill-supervisor'"
    eventually(lambda: query(crowd, stored)[0]["n"] == 1, "the answer in PostgreSQL")
    children = [*crowd.worker_pids(), *eventually(crowd.chat_pids, "a local model")]
    postmaster = crowd.postmaster_pid()
    crowd.kill()
    eventually(lambda: not any(map(alive, children)), "the end of workers and model")
    # PostgreSQL is left running for whoever starts next. There is never a second one.
    crowd.start()
    assert crowd.postmaster_pid() == postmaster or not alive(postmaster)
    again = ask(crowd, key, "before")
    assert (first.headers["x-farthing-source"], again.headers["x-farthing-source"]) == ("model", "exact")
    once_each(crowd, [answer.headers["x-request-id"] for answer in (first, again)])
    add_up(crowd)


def test_entries_on_disk_arrive_at_the_next_start(slow_ledger: Installation) -> None:
    key = new_key(slow_ledger, "acme")["key"]
    answers = [ask(slow_ledger, key, f"on disk {number}") for number in range(12)]
    assert _stored(slow_ledger) == 0
    for pid in slow_ledger.worker_pids():
        os.kill(pid, signal.SIGKILL)
    slow_ledger.kill()
    os.kill(slow_ledger.postmaster_pid(), signal.SIGKILL)
    slow_ledger.start()
    once_each(slow_ledger, [answer.headers["x-request-id"] for answer in answers])
    assert _stored(slow_ledger) == len(answers)
    # Killed alone, the supervisor leaves time to the workers: they store what they have and go.
    more = [ask(slow_ledger, key, f"on disk again {number}") for number in range(5)]
    workers = slow_ledger.worker_pids()
    slow_ledger.kill()
    eventually(lambda: not any(map(alive, workers)), "the end of the workers")
    slow_ledger.start()
    once_each(slow_ledger, [answer.headers["x-request-id"] for answer in answers + more])
    assert _stored(slow_ledger) == len(answers) + len(more)
    add_up(slow_ledger)
