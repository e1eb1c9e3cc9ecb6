"""The processes in force, and their replacement by others under new settings without a request lost: SIGHUP, `farthing reload`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from pydantic import BaseModel, SecretStr

from farthing import logs
from farthing.app_catalogue import check_providers, price_questions
from farthing.app_checks import load_validators
from farthing.app_secrets import fresh_secrets
from farthing.app_stores import check_redis
from farthing.errors import FarthingError, SettingsError
from farthing.orders import Orders
from farthing.settings import Settings, load_text, read_text
from farthing.spend.price_book import open_book
from farthing.supervisor_workers import BACKGROUND, GATEWAY, Generation

_log = logging.getLogger("farthing.supervisor")
FROZEN = (
    "data",
    "server.host",
    "server.port",
    "database.url",
    "local.enabled",
    "local.parallel",
    "local.context_tokens",
    "local.threads",
)
"""What the supervisor itself holds: the folder, the socket, the engines. Changes of these wait for a restart."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a reload. `began` in seconds since 1970: an outcome that began after a signal was sent answers it.

    `waiting` names settings that differ in the file and wait for a restart.
    """

    began: float
    ok: bool
    message: str
    waiting: list[str] = []


class Fleet:
    """The gateway workers in force, and the background processes. `orders` makes orders out of settings and the text they were read from.

    Without a `listener` there are no gateway workers. Background processes start when the gateway workers are ready, so that nobody waits
    for them; what the gateway workers do of their work is said by their own number, which may be none.

    `secrets` is what the references in that text stood for; a reload looks them up anew, so that rotated ones come into force.

    A reload starts a generation beside the one in force, waits until all of it is ready, and lets the old one finish what it has. When
    the new settings are wrong, or their workers do not get ready within `server.ready_s`, nothing changes.
    """

    def __init__(
        self,
        listener: socket.socket | None,
        settings: Settings,
        path: Path | None,
        overrides: dict[str, Any],
        orders: Callable[[Settings, str | None, dict[str, Any]], Orders],
        secrets: dict[str, str],
    ) -> None:
        self._listener = listener
        self._settings = settings
        self._path = path
        self._overrides = overrides
        self._orders = orders
        self._text = read_text(path) if path else None
        self._secrets = secrets
        self._in_force = Generation(GATEWAY, listener, self._gateways(settings))
        self._behind = Generation(BACKGROUND, None, settings.jobs.workers)
        self._others: dict[Generation, asyncio.Task[None] | None] = {}

    def start(self) -> None:
        """Let the first workers load their modules."""
        self._in_force.start()

    def begin(self) -> None:
        """Let them work."""
        orders = msgspec.structs.replace(self._orders(self._settings, self._text, self._fixed()), secrets=self._secrets)
        self._in_force.order(orders)
        self._behind.order(_behind_the_doors(orders))

    async def follow(self) -> None:
        """Start the background processes when the gateway workers are ready, and wait until they are ready as well."""
        await self._in_force.ready()
        self._behind.start()
        await self._behind.ready()

    async def run(self, asked: asyncio.Event) -> None:
        """Reload whenever asked, until cancelled. Leaves the outcome in the data folder."""
        while True:
            await asked.wait()
            asked.clear()
            outcome = await self.reload()
            try:
                await asyncio.to_thread(write_outcome, self._settings.data, outcome)
            except OSError as error:
                _log.warning("the outcome of the reload could not be written: %s", error)

    async def reload(self) -> Outcome:
        """Read the settings anew. Never raises."""
        began = time.time()
        try:
            waiting = await self._replace()
        except FarthingError as error:
            _log.error("settings not reloaded, the old ones stay in force: %s", error.message)
            return Outcome(began=began, ok=False, message=error.message)
        except Exception:  # noqa: BLE001 - whatever it is, the supervisor must live and the log must say
            _log.exception("the reload failed, the old settings stay in force")
            return Outcome(began=began, ok=False, message="internal error; see Farthing's log")
        if waiting:
            _log.warning("settings reloaded; these wait for a restart: %s", ", ".join(waiting))
        else:
            _log.info("settings reloaded")
        return Outcome(began=began, ok=True, message=f"{self._new()} new workers are at work", waiting=waiting)

    async def stop(self) -> None:
        """Stop all workers, of whatever generation."""
        retiring = [task for task in self._others.values() if task is not None]
        for task in retiring:
            task.cancel()
        await asyncio.gather(*retiring, return_exceptions=True)
        every = (self._in_force, self._behind, *self._others)
        await asyncio.gather(*(generation.stop(self._settings.server.drain_s) for generation in every))

    async def _replace(self) -> list[str]:
        """Returns the names of what waits for a restart."""
        await asyncio.gather(*(task for task in self._others.values() if task is not None))  # at most two generations at a time
        text = await asyncio.to_thread(read_text, self._path) if self._path else None
        free = {name: value for name, value in self._overrides.items() if name not in FROZEN or name.startswith("server.")}
        secrets = fresh_secrets()
        proposed = await asyncio.to_thread(load_text, text, os.environ, free, secrets)  # a vault may keep us waiting
        waiting = changed(load_text(self._text, os.environ, free, fresh_secrets(self._secrets)), proposed)
        settings = load_text(text, os.environ, {**self._overrides, **self._fixed()}, secrets)
        if not self._gateways(settings) and not settings.jobs.workers:
            raise SettingsError("jobs.workers is 0, and here are background processes alone: none would be left")
        check_providers(settings)
        check_redis(settings)
        await load_validators(settings)
        await asyncio.to_thread(open_book, settings.data / "prices.json", price_questions(settings))
        fresh = Generation(GATEWAY, self._listener, self._gateways(settings), trial=True)
        orders = msgspec.structs.replace(self._orders(settings, text, self._fixed()), secrets=secrets.found)
        self._others[fresh] = None
        fresh.start()
        fresh.order(orders)
        await self._prove(fresh, settings.server.ready_s)
        logs.setup(settings.telemetry.log_level)
        behind = Generation(BACKGROUND, None, settings.jobs.workers)
        behind.start()
        behind.order(_behind_the_doors(orders))
        retiring = (self._in_force, self._behind)
        self._in_force, self._behind = fresh, behind
        del self._others[fresh]
        for old in retiring:
            self._others[old] = asyncio.create_task(self._retire(old, self._settings.server.drain_s))
        self._settings, self._text, self._secrets = settings, text, secrets.found
        return waiting

    async def _prove(self, fresh: Generation, ready_s: float) -> None:
        """Wait until all of a generation is ready; else end it and raise."""
        try:
            async with asyncio.timeout(ready_s):
                await fresh.ready()
        except (TimeoutError, ChildProcessError) as error:
            await fresh.stop(0)
            del self._others[fresh]
            why = str(error) or f"the new workers were not ready within {ready_s:g} s (setting server.ready_s)"
            raise SettingsError(f"{why}; see Farthing's log") from None

    async def _retire(self, old: Generation, grace_s: float) -> None:
        await old.retire(grace_s)
        del self._others[old]

    def _gateways(self, settings: Settings) -> int:
        return 0 if self._listener is None else settings.server.workers

    def _new(self) -> int:
        """How many processes the settings in force ask for, of the kind that the installation is made of."""
        return self._gateways(self._settings) or self._settings.jobs.workers

    def _fixed(self) -> dict[str, Any]:
        return {name: _at(self._settings, name) for name in FROZEN}


def _behind_the_doors(orders: Orders) -> Orders:
    """The same for background processes."""
    return msgspec.structs.replace(orders, runtime=msgspec.structs.replace(orders.runtime, handles=True))


def changed(old: Settings, new: Settings) -> list[str]:
    """The frozen settings that differ."""
    return [name for name in FROZEN if _at(old, name) != _at(new, name)]


def _at(settings: Settings, dotted: str) -> Any:
    value: Any = settings
    for part in dotted.split("."):
        assert isinstance(value, BaseModel)
        value = getattr(value, part)
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value


def write_outcome(data: Path, outcome: Outcome) -> None:
    """Leave it for whoever asked."""
    draft = data / "reload.json.new"
    draft.write_bytes(msgspec.json.encode(outcome))
    draft.replace(data / "reload.json")


def read_outcome(data: Path) -> Outcome | None:
    """The last one; None when there is none."""
    try:
        return msgspec.json.decode((data / "reload.json").read_bytes(), type=Outcome)
    except (OSError, msgspec.MsgspecError):
        return None
