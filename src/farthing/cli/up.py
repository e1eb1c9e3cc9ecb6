"""`farthing up`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from farthing import logs
from farthing.app_catalogue import check_providers
from farthing.app_checks import check_validators
from farthing.app_secrets import fresh_secrets
from farthing.app_stores import check_redis
from farthing.cli.options import DataOption, SettingsOption, read_settings, settings_path
from farthing.settings import Settings
from farthing.supervisor import Supervisor

_CURL = """\
curl -s {url}/v1/chat/completions \\
  -H "Authorization: Bearer $(cat {key_file})" -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", {bound}"messages": [{{"role": "user", "content": "What is a farthing?"}}]}}'"""


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data: DataOption = None,
    workers: Annotated[int | None, typer.Option(help="Gateway processes.")] = None,
    settings: SettingsOption = None,
) -> None:
    """Start Farthing and everything it needs, and keep it running."""
    given = {"server.host": host, "server.port": port, "server.workers": workers}
    effective, overrides, secrets = prepared(settings, data, {name: value for name, value in given.items() if value is not None})

    def ready(url: str, made: str | None) -> None:
        _print_banner(effective, url, made)

    path = settings_path(settings)
    asyncio.run(Supervisor(effective, path.absolute() if path else None, overrides, ready, secrets).run())


def prepared(settings: Path | None, data: Path | None, overrides: dict[str, Any]) -> tuple[Settings, dict[str, Any], dict[str, str]]:
    """The effective settings, checked; what lies over the file, the data folder in it; what the file's references stood for.

    Raises `SettingsError`. From here on the log is as the settings say.
    """
    secrets = fresh_secrets()
    home = read_settings(settings, data, overrides, secrets).data.absolute()
    over = {**overrides, "data": str(home)}
    effective = read_settings(settings, None, over, secrets)
    check_providers(effective)
    check_redis(effective)
    check_validators(effective)
    logs.setup(effective.telemetry.log_level)
    return effective, over, secrets.found


def _print_banner(settings: Settings, url: str, made: str | None) -> None:
    key_file = settings.data / "admin.key"
    named = (name for name, model in settings.models.items() if model.kind == "chat")
    model = next(named, "local" if settings.local.enabled else "MODEL")
    bound = '"max_tokens": 100, ' if model == "local" else ""  # so small a model may go on for minutes
    shown = Path(".farthing/admin.key") if key_file == Path.cwd() / ".farthing/admin.key" else key_file
    lines = [f"Farthing is ready at {url}"]
    if made:
        lines.append(f"Admin key (shown this once, kept in {shown}): {made}")
    else:
        lines.append(f"Admin key: in {shown}")
    lines += ["Try:", _CURL.format(url=url, key_file=shown, model=model, bound=bound)]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
