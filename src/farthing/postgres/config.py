"""Documents that all workers agree on, in PostgreSQL."""

from __future__ import annotations

from psycopg.rows import TupleRow

from farthing.config import KEPT, MOST_NAMES, checked_name, decoded, encoded, line, may_follow
from farthing.errors import InvalidRequest
from farthing.modes import MODES
from farthing.postgres.connection import Connection
from farthing.postgres.events_storing import Append, append
from farthing.postgres.pool import Database
from farthing.types import Document, Json, document_event

_COLUMNS = "name, version, body::text, at, by, reason"
_LATEST = f"SELECT {_COLUMNS} FROM farthing.config WHERE name = %s"  # noqa: S608  # the column names are ours
_HISTORY = f"SELECT {_COLUMNS} FROM farthing.config_history WHERE name = %s ORDER BY version DESC LIMIT %s"  # noqa: S608  # the same
# Also where there is no row yet that could be locked.
_ALONE = "SELECT pg_advisory_xact_lock(hashtextextended('farthing.config', 0))"
_NAMES = "SELECT count(*) FROM farthing.config WHERE name <> %s"
_WRITE = f"""
INSERT INTO farthing.config (name, version, body, at, by, reason)
VALUES (%(name)s, %(version)s, %(body)s::jsonb, clock_timestamp(), %(by)s, %(reason)s)
ON CONFLICT (name) DO UPDATE SET
  version = excluded.version, body = excluded.body, at = excluded.at, by = excluded.by, reason = excluded.reason
RETURNING {_COLUMNS}
"""  # noqa: S608  # the same
_RECORD = """
INSERT INTO farthing.config_history (name, version, body, at, by, reason)
SELECT name, version, body, at, by, reason FROM farthing.config WHERE name = %(name)s
"""
_PRUNE = "DELETE FROM farthing.config_history WHERE name = %(name)s AND version <= %(version)s - %(kept)s"
_NOTIFY = "SELECT pg_notify('farthing_config', %(name)s)"


class PostgresConfig:
    """`ports.ConfigStore` on `farthing.config` and `farthing.config_history`. Time is the database's.

    Changes are told on the channel `config`, in the same transaction; the payload is the document's name. Of each document `kept` versions
    are in history. The bus is told (`append`) in the same transaction too.
    """

    def __init__(self, database: Database, *, poll_s: float = 5.0, kept: int = KEPT, append: Append | None = append) -> None:
        self.poll_s = poll_s
        self._append = append
        self._database = database
        self._kept = kept

    async def read(self, name: str) -> Document | None:
        """See `ports.ConfigStore.read`."""
        checked_name(name)
        async with self._database.service() as connection:
            return await _latest(connection, name)

    async def write(self, name: str, body: Json, *, expect: int | None, by: str, reason: str) -> Document:
        """See `ports.ConfigStore.write`."""
        data = encoded(name, body)
        async with self._database.service() as connection:
            await connection.execute(_ALONE)
            version = may_follow(name, await _latest(connection, name), expect)
            await _see_room(connection, name)
            values = {"name": name, "version": version, "body": data.decode(), "by": line(by), "reason": line(reason), "kept": self._kept}
            row = await (await connection.execute(_WRITE, values)).fetchone()
            assert row is not None
            for statement in (_RECORD, _PRUNE, _NOTIFY):
                await connection.execute(statement, values)
            written = _document(row)
            if self._append is not None:
                await self._append(connection, [document_event(written, modes=MODES)])
        return written

    async def history(self, name: str, limit: int) -> list[Document]:
        """See `ports.ConfigStore.history`."""
        checked_name(name)
        async with self._database.service() as connection:
            rows = await (await connection.execute(_HISTORY, (name, max(limit, 0)))).fetchall()
        return [_document(row) for row in rows]


async def _latest(connection: Connection, name: str) -> Document | None:
    row = await (await connection.execute(_LATEST, (name,))).fetchone()
    return _document(row) if row else None


async def _see_room(connection: Connection, name: str) -> None:
    row = await (await connection.execute(_NAMES, (name,))).fetchone()
    if row is not None and row[0] >= MOST_NAMES:
        raise InvalidRequest(f"the store holds {MOST_NAMES} documents and no more")


def _document(row: TupleRow) -> Document:
    name, version, body, at, by, reason = row
    return Document(name=name, version=version, body=decoded(name, body), at=at, by=by, reason=reason)
