"""Versions of states in PostgreSQL: how often each has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from farthing.postgres.connection import Connection

_BUMP = """
INSERT INTO farthing.state_versions AS s (tenant, state, version, at)
SELECT %(tenant)s, g.state, 1, clock_timestamp() FROM (SELECT unnest(%(states)s::text[]) AS state) AS g ORDER BY g.state COLLATE "C"
ON CONFLICT (tenant, state) DO UPDATE SET version = s.version + 1, at = excluded.at
RETURNING state, version
"""
_TELL = "SELECT pg_notify('farthing_states', news) FROM unnest(%s::text[]) AS news"
_MOST_TOLD: Final = 100
_LONGEST: Final = 7900
"""A notification's payload has less than 8000 bytes."""


async def bump(connection: Connection, tenant: str, states: Sequence[str]) -> dict[str, int]:
    """States of a tenant have changed: their versions go up by one, in the caller's transaction. Returns the new ones.

    The other workers are told when it commits. It locks the states until then; who bumps those of several tenants does so in the order
    of their names.
    """
    if not states:
        return {}
    rows = await (await connection.execute(_BUMP, {"tenant": tenant, "states": sorted(set(states))})).fetchall()
    versions: dict[str, int] = dict(rows)
    await connection.execute(_TELL, (list(_news(tenant, versions)),))
    return versions


def _news(tenant: str, versions: Mapping[str, int]) -> Iterator[str]:
    """In pieces that can be told; nothing, which says to reload, where a name is too long for that."""
    states = list(versions)
    for start in range(0, len(states), _MOST_TOLD):
        some = {state: versions[state] for state in states[start : start + _MOST_TOLD]}
        told = json.dumps({"tenant": tenant, "versions": some})
        yield told if len(told) <= _LONGEST else ""
