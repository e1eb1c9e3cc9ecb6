"""What a soak runs on: a real `farthing up`, a PostgreSQL of its own that can be taken away, the upstream, tenants with their keys."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import yaml

from farthing.postgres.embedded import EmbeddedPostgres
from farthing.testing.installation import Installation
from processes import descendants
from soaking.facts import Tenant
from soaking.upstream import MODELS, PRICE_IN, PRICE_OUT

_SPOOL_BYTES = 8 * 2**20
_BALLAST = "ballast"


def settings(base_url: str, database: str, *, local: bool) -> dict[str, Any]:
    """Deadlines are short, so that a fault shows; what a worker keeps in memory is small, so that it is full soon."""
    price = {"input_usd_per_1m": PRICE_IN, "output_usd_per_1m": PRICE_OUT}
    provider = {"kind": "openai_compatible", "base_url": base_url, "api_key": "sk-soak", "retries": 1}
    provider |= {"first_token_timeout_s": 2, "idle_timeout_s": 2, "total_timeout_s": 20, "cooldown": {"failures": 3, "seconds": 2}}
    deployments = [{"provider": f"up-{name}", "upstream_model": name, "price": price} for name in MODELS[:2]]
    return {
        "local": {"enabled": local},
        "database": {"url": database, "probe_interval_s": 0.5},
        "providers": {f"up-{name}": provider for name in MODELS},
        "models": {
            "main": {"deployments": deployments, "fallbacks": ["spare"]},
            "spare": {"provider": "up-spare", "upstream_model": "spare", "price": price},
        },
        "cache": {"exact": {"max_bytes": 262_144, "max_known_keys": 1000, "max_rows": 2000}},
        "responses": {"ttl_s": 60},
        "keys": {"refresh_s": 2},
    }


class Scene:
    """`database` is stopped and started by the faults; `spool` says how its disk can be filled."""

    def __init__(self, folder: Path, base_url: str, *, workers: int, local: bool) -> None:
        self._base_url = base_url
        self._local = local
        self.database = EmbeddedPostgres(folder / "postgres")
        self.farthing = Installation(folder, {}, workers=workers)
        self.spool = "not set up"
        self._mounted = False

    async def start(self) -> None:
        """PostgreSQL, a small disk for the ledger's files where that is permitted, and Farthing."""
        await self.database.start()
        written = settings(self._base_url, self.database.uri, local=self._local)
        self.farthing.settings.write_text(yaml.safe_dump(written), encoding="utf-8")
        ledger = self.farthing.data / "ledger"
        ledger.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SPOOL_BYTES},mode=700", "farthing-soak", str(ledger)]
        with suppress(OSError):
            self._mounted = (await asyncio.to_thread(subprocess.run, mount, capture_output=True, check=False)).returncode == 0
        self.spool = f"tmpfs of {_SPOOL_BYTES} bytes" if self._mounted else "RLIMIT_FSIZE of 0 on the workers (no right to mount)"
        await asyncio.to_thread(self.farthing.start)

    async def stop(self) -> int:
        """Farthing, then PostgreSQL. Returns Farthing's exit status."""
        self.resume_database()
        try:
            return await asyncio.to_thread(self.farthing.stop)
        finally:
            await self.database.stop()
            if self._mounted:
                await asyncio.to_thread(subprocess.run, ["umount", str(self.farthing.data / "ledger")], check=False)

    async def tenants(self, hard_usd: float) -> list[Tenant]:
        """Keys of five tenants: one roomy, one that runs out, one slow, one that is only warned, one without anything."""
        wishes: list[tuple[dict[str, Any], frozenset[str], int | None]] = [
            ({"tenant": "roomy", "budget_usd": "1000/day"}, frozenset({"budget_unverified"}), 1_000_000_000),
            (
                {"tenant": "tiny", "budget_usd": f"{hard_usd:.4f}/lifetime"},
                frozenset({"insufficient_quota", "budget_unverified"}),
                round(hard_usd * 1e6),
            ),
            ({"tenant": "slow", "requests_per_minute": 300, "concurrency": 8}, frozenset({"rate_limit_exceeded"}), None),
            ({"tenant": "warned", "budget_usd": "0.01/day soft"}, frozenset(), None),
            ({"tenant": "free"}, frozenset(), None),
        ]
        made = []
        async with httpx2.AsyncClient(base_url=self.farthing.url, headers={"authorization": f"Bearer {self.farthing.key}"}) as client:
            for wish, may, limit in wishes:
                answer = await client.post("/admin/v1/keys", json=wish)
                answer.raise_for_status()
                made.append(Tenant(name=wish["tenant"], key=answer.json()["key"], may=may, hard_limit=limit))
        return made

    async def stop_database(self) -> None:
        """A fast shutdown, as an administrator's restart."""
        if (pid := self.database.pid) is not None:
            os.kill(pid, signal.SIGINT)
        while self.database.pid is not None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)

    def hang_database(self) -> None:
        """All its processes stand still; connections stay open and say nothing."""
        self._signal_database(signal.SIGSTOP)

    def resume_database(self) -> None:
        """Undo it."""
        self._signal_database(signal.SIGCONT)

    def _signal_database(self, number: signal.Signals) -> None:
        pid = self.database.pid
        for one in [pid, *descendants(pid)] if pid is not None else []:
            with suppress(ProcessLookupError):
                os.kill(one, number)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """No byte fits on the ledger's disk while this is open."""
        if not self._mounted:
            with self._no_growth():
                yield
            return
        ballast = self.farthing.data / "ledger" / _BALLAST
        try:
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(4096))
            yield
        finally:
            ballast.unlink(missing_ok=True)

    @contextmanager
    def _no_growth(self) -> Iterator[None]:
        """For where nobody may mount: no file of a worker may grow, its log included."""
        limited = {}
        for pid in self.farthing.worker_pids():
            limited[pid] = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, limited[pid][1]))
        try:
            yield
        finally:
            for pid, before in limited.items():
                with suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
