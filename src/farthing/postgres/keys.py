"""Virtual keys in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from psycopg.rows import TupleRow

from farthing.postgres.pool import Database
from farthing.types import KeyRecord, Limits

_encode = msgspec.json.Encoder().encode
_COLUMNS = "id, tenant, user_id, tier, name, digest, hint, admin, models, created_at, expires_at, revoked_at, limits"
_FIND = f"SELECT {_COLUMNS} FROM farthing.keys WHERE digest = %s"  # noqa: S608  # the column names are ours
_ALL = f"SELECT {_COLUMNS} FROM farthing.keys ORDER BY id DESC LIMIT %s"  # noqa: S608  # the same
_ADD = f"""
WITH added AS (
  INSERT INTO farthing.keys ({_COLUMNS}) VALUES ({", ".join(["%s"] * 13)})
  ON CONFLICT (digest) DO NOTHING RETURNING 1
)
SELECT pg_notify('farthing_keys', '') FROM added
"""  # noqa: S608  # the same
_REVOKE = """
WITH revoked AS (
  UPDATE farthing.keys SET revoked_at = coalesce(revoked_at, %s) WHERE id = %s RETURNING 1
)
SELECT pg_notify('farthing_keys', '') FROM revoked
"""


class PostgresKeys:
    """`ports.KeyStore` on `farthing.keys`. Adding and revoking tell other workers (channel `keys`) in the same transaction.

    Newest first is by id, which is a UUIDv7. All work is cross-tenant: a key is looked up to learn its tenant.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, digest: bytes) -> KeyRecord | None:
        """See `ports.KeyStore.find`."""
        async with self._database.service() as connection:
            row = await (await connection.execute(_FIND, (digest,))).fetchone()
        return _record(row) if row else None

    async def all(self, limit: int) -> list[KeyRecord]:
        """See `ports.KeyStore.all`."""
        async with self._database.service() as connection:
            rows = await (await connection.execute(_ALL, (limit,))).fetchall()
        return [_record(row) for row in rows]

    async def add(self, record: KeyRecord) -> None:
        """See `ports.KeyStore.add`. Raises `InvalidRequest` when another key has its id."""
        models = None if record.models is None else list(record.models)
        values = (record.id, record.tenant, record.user, record.tier, record.name, record.digest, record.hint, record.admin, models)
        limits = None if record.limits == Limits() else _encode(record.limits).decode()
        times = (record.created_at, record.expires_at, record.revoked_at, limits)
        async with self._database.service() as connection:
            await connection.execute(_ADD, (*values, *times))

    async def revoke(self, key_id: UUID, at: datetime) -> bool:
        """See `ports.KeyStore.revoke`."""
        async with self._database.service() as connection:
            cursor = await connection.execute(_REVOKE, (at, key_id))
            return cursor.rowcount == 1


def _record(row: TupleRow) -> KeyRecord:
    key_id, tenant, user, tier, name, digest, hint, admin, models, created_at, expires_at, revoked_at, limits = row
    return KeyRecord(
        id=key_id,
        tenant=tenant,
        user=user,
        tier=tier,
        name=name,
        digest=bytes(digest),
        hint=hint,
        admin=admin,
        models=None if models is None else tuple(models),
        limits=Limits() if limits is None else msgspec.convert(limits, Limits),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
    )
