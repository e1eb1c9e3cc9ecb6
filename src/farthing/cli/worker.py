"""`farthing worker`."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from farthing.cli.options import DataOption, SettingsOption, settings_path
from farthing.cli.up import prepared
from farthing.errors import SettingsError
from farthing.supervisor import Supervisor


def worker(
    data: DataOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Background processes; else jobs.workers of the settings.")] = None,
    settings: SettingsOption = None,
) -> None:
    """Start background processes alone, on this host, for a Farthing that runs elsewhere on the same database."""
    overrides: dict[str, Any] = {} if workers is None else {"jobs.workers": workers}
    effective, overrides, secrets = prepared(settings, data, overrides)
    if effective.database.url is None:
        raise SettingsError(
            "`farthing worker` needs database.url, the PostgreSQL that it shares with `farthing up` elsewhere; "
            "with the embedded PostgreSQL, `farthing up` runs the background processes itself (jobs.workers)"
        )
    if not effective.jobs.workers:
        raise SettingsError("jobs.workers is 0: name how many background processes there shall be with --workers")

    def ready(url: str, made: str | None) -> None:
        del url, made
        count = effective.jobs.workers
        sys.stdout.write(f"Farthing is at work in the background: {count} process{'es' if count > 1 else ''}\n")
        sys.stdout.flush()

    path = settings_path(settings)
    asyncio.run(Supervisor(effective, path.absolute() if path else None, overrides, ready, secrets, doors=False).run())
