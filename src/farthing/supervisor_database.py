"""The supervisor's side of the database: the embedded server's life, the schema, the admin key. A database that is away is waited for."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

from farthing.errors import FarthingError, SettingsError, Unavailable
from farthing.http.auth import digest_of, new_key
from farthing.postgres.embedded import EmbeddedPostgres
from farthing.postgres.keys import PostgresKeys
from farthing.postgres.migrate import migrate
from farthing.postgres.pool import Database
from farthing.postgres.translate import absence
from farthing.settings import Settings
from farthing.types import KeyRecord, new_id, utc_now

_log = logging.getLogger("farthing.supervisor")
ADMIN_TENANT = "default"
_PATIENCE_S = 5.0
"""How long a start waits for the database before it goes on without it."""
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0


class HomeDatabase:
    """The embedded server in the data folder, or the one at `database.url`, brought to where workers can use it.

    `with_key`: the data folder has an admin key, which is made known. `made` is that key, if this start made it. A login that the server
    turns down is an error at a start that has nothing to go on from (no snapshot of keys in `snapshots`), since nobody is served by
    waiting. With a snapshot it is waited for, and the log says it.
    """

    def __init__(self, settings: Settings, snapshots: Path, *, with_key: bool = True) -> None:
        self._settings = settings
        self._with_key = with_key
        self._snapshots = snapshots
        self._postgres = EmbeddedPostgres(settings.data / "postgres") if settings.database.url is None else None
        self._tasks: list[asyncio.Task[None]] = []
        self.made: str | None = None

    @property
    def url(self) -> str:
        """Where workers connect, whether somebody answers there yet or not."""
        if self._postgres is not None:
            return self._postgres.expected_uri
        assert self._settings.database.url is not None
        return self._settings.database.url.get_secret_value()

    async def start(self) -> None:
        """Return when the database can be used, or when it cannot be now; it is then waited for in the background.

        Raises `SettingsError` when it will never be usable as it is: rights, version, login.
        """
        key = self._admin_key() if self._with_key else None
        tried = asyncio.Event()
        task = asyncio.create_task(self._bring_up(key, tried))
        self._tasks.append(task)
        first = asyncio.create_task(tried.wait())
        await asyncio.wait({task, first}, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        first.cancel()
        if task.done():
            task.result()
        elif not tried.is_set():
            tried.set()  # nobody waits for the first try any more: what it fails of is said, and tried again
            _log.warning("the database is not ready after %.0f s; going on without it until it is", _PATIENCE_S)

    async def stop(self) -> None:
        """Stop looking after it, and stop the embedded server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._postgres is not None:
            await self._postgres.stop()

    async def _bring_up(self, key: str | None, tried: asyncio.Event) -> None:
        """Try until it works. What waiting cannot help is raised by the first try, and waited for by later ones: somebody may mend it."""
        pause = _FIRST_PAUSE_S
        said = None
        while True:
            try:
                await self._try(key)
            except (SettingsError, Unavailable) as error:
                reason = self._judged(error, first=not tried.is_set())
                if reason != said:
                    _log.warning("the database cannot be used and is tried again, requests go on without it: %s", reason)
                said = reason
            except Exception:
                if not tried.is_set():
                    raise
                _log.exception("the database could not be brought up")
                said = "?"
            else:
                break
            tried.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        if said is not None:
            _log.warning("the database is there")
        if self._postgres is not None:
            self._tasks.append(asyncio.create_task(self._postgres.supervise()))

    def _judged(self, error: FarthingError, *, first: bool) -> str:
        """What to say of a failure. Raises it when it is for good and there is nothing to go on from."""
        if isinstance(error, SettingsError):
            if first:
                raise error
            return error.message
        found = absence(error)
        if first and found.refused and not (self._snapshots / "keys.jsonl").exists():
            raise SettingsError(f"PostgreSQL turns down the login of database.url: {found.reason}")
        return found.reason

    async def _try(self, key: str | None) -> None:
        if self._postgres is not None:
            await self._postgres.start()
        await migrate(self.url)
        if key is not None:
            await self._know(key)

    def _admin_key(self) -> str:
        path = self._settings.data / "admin.key"
        if not path.exists():
            self.made = new_key()
            _write_secret(path, self.made)
        return path.read_text(encoding="utf-8").strip()

    async def _know(self, key: str) -> None:
        """See that the admin key in the data folder is valid."""
        database = Database(self.url, connect_timeout_s=self._settings.database.connect_timeout_s)
        await database.open()
        try:
            record = KeyRecord(
                id=new_id(),
                tenant=ADMIN_TENANT,
                tier="admin",
                name="bootstrap",
                digest=digest_of(key),
                hint=key[-4:],
                admin=True,
                created_at=utc_now(),
            )
            await PostgresKeys(database).add(record)
        finally:
            await database.close()


def _write_secret(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError:
        path.unlink()  # an empty one would be taken for the key by the next start
        raise
