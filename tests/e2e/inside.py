"""What an operator sees from inside a machine: the rows of the ledger and the processes; and how to wait for them."""

from __future__ import annotations

import os
import signal
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg
from psycopg.rows import dict_row

from farthing.testing.installation import Installation

Row = dict[str, Any]
Found = TypeVar("Found")

_POLL_S = 0.05
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients of a gateway on this machine: httpx would read all certificates of the world for each of them, which takes 40 ms."""


def eventually(look: Callable[[], Found | None], what: str, seconds: float = 15.0) -> Found:
    """The first true thing that `look` sees."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s, last seen {found!r}"
        time.sleep(_POLL_S)


def query(farthing: Installation, sql: str, *values: object, role: str = "farthing_service") -> list[Row]:
    """Rows of the installation's database, read in one of the two roles that docs/schema.md describes."""
    with psycopg.connect(farthing.database_url, row_factory=dict_row) as connection:
        connection.execute(f"SET ROLE {role}".encode())
        cursor = connection.execute(sql.encode(), values)
        return cursor.fetchall() if cursor.description else []


def settled(farthing: Installation, ids: Collection[str]) -> dict[str, list[Row]]:
    """The ledger's rows of these requests by request id, attempts in order, once each request has its final row."""

    def look() -> dict[str, list[Row]] | None:
        rows = query(farthing, "SELECT * FROM farthing.ledger WHERE request_id = ANY(%s::uuid[]) ORDER BY attempt, id", list(ids))
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(str(row["request_id"]), []).append(row)
        complete = len(found) == len(set(ids)) and all(any(row["final"] for row in some) for some in found.values())
        return found if complete else None

    return eventually(look, f"final rows of {len(ids)} requests")


def once_each(farthing: Installation, ids: Sequence[str]) -> None:
    """Each of these answered requests has exactly one final row, and it says 200."""
    assert len(set(ids)) == len(ids)
    for request_id, rows in settled(farthing, ids).items():
        final = [(row["status"], row["error"]) for row in rows if row["final"]]
        assert final == [(200, None)], f"{request_id}: {final}"


def add_up(farthing: Installation) -> None:
    """No request has two final rows, and the daily sums equal the rows, whatever has happened."""
    doubles = "SELECT request_id FROM farthing.ledger GROUP BY 1 HAVING count(*) FILTER (WHERE final) > 1"
    assert query(farthing, doubles) == []
    sums = (
        "count(*) FILTER (WHERE final) AS requests, count(*) FILTER (WHERE attempt > 0) AS attempts, "
        "sum(cost_microusd)::bigint AS spent, sum(saved_microusd)::bigint AS saved"
    )
    daily = (
        "sum(requests)::bigint AS requests, sum(attempts)::bigint AS attempts, "
        "sum(spent_microusd)::bigint AS spent, sum(saved_microusd)::bigint AS saved"
    )
    both = f"SELECT 'rows' AS of, {sums} FROM farthing.ledger UNION ALL SELECT 'days', {daily} FROM farthing.ledger_daily"  # noqa: S608 - our own text
    rows, days = query(farthing, both)
    assert {**rows, "of": ""} == {**days, "of": ""}


def new_key(farthing: Installation, tenant: str, **more: object) -> Row:
    """A virtual key, made at the admin door."""
    headers = {"authorization": f"Bearer {farthing.key}"}
    answer = httpx.post(f"{farthing.url}/admin/v1/keys", json={"tenant": tenant, **more}, headers=headers, timeout=10, verify=NO_TLS)
    assert answer.status_code == 201, answer.text
    made: Row = answer.json()
    return made


def ask(farthing: Installation, key: str, text: str, /, model: str = "fast", **more: object) -> httpx.Response:
    """One chat request on a connection of its own."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{farthing.base_url}/chat/completions", json=body, headers=headers, timeout=60, verify=NO_TLS)


def alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def processes_of(farthing: Installation) -> list[str]:
    """The command lines of what lives and names this installation's folder, its port's supervisor and its PostgreSQL among them."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            command = entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") if entry.name.isdigit() else ""
            if str(farthing.folder) + "/" in command:
                found.append(command)
    return found


def both_workers(farthing: Installation) -> list[int]:
    """The workers of an installation that should have two, once it has."""
    return eventually(lambda: pids if len(pids := farthing.worker_pids()) == 2 else None, "two workers")


@contextmanager
def alone(farthing: Installation, pid: int) -> Iterator[None]:
    """Meanwhile this worker alone answers: the others are stopped, and then go on."""
    others = [other for other in farthing.worker_pids() if other != pid]
    for other in others:
        os.kill(other, signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)
