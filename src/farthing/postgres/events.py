"""The event bus in PostgreSQL: events, and for each handler what of them is still to be delivered, lane by lane.

Deliveries are made in the transaction that stores the event. A lane has a row while it has deliveries; who takes a delivery leases the
lane. Leases and what is done need not survive a crash of the server: then the events are delivered again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from itertools import takewhile
from typing import Any, Final
from uuid import UUID

import msgspec
from psycopg.rows import TupleRow

from farthing.errors import Overloaded
from farthing.events.payload import touched
from farthing.postgres import events_sql as sql
from farthing.postgres.connection import Connection
from farthing.postgres.erasures import erase
from farthing.postgres.events_pruning import forget, prune
from farthing.postgres.events_storing import append
from farthing.postgres.pool import Database
from farthing.types import Backlog, DeadLetter, Delivery, Event, Subscription, new_id, utc_now

_TOKEN_BITS: Final = 63
Bump = Callable[[str, Sequence[str]], Awaitable[object]]


class PostgresEvents:
    """`ports.EventBus`. `clock` gives the time where it is tested; without one it is the database's, which all hosts share.

    While a handler is more than `max_backlog` deliveries behind, `publish` raises `Overloaded`; what it knows of that is at most
    `look_s` seconds old. `bump`: versions of states are kept elsewhere as well, and go up there before the events are stored.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_backlog: int = 100_000,
        look_s: float = 1.0,
        bump: Bump | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self._database = database
        self._max_backlog = max_backlog
        self._look_s = look_s
        self._bump = bump
        self._clock = clock
        self._looked_at: float | None = None
        self._behind: str | None = None

    def _now(self) -> datetime | None:
        return None if self._clock is None else self._clock()

    async def publish(self, events: Sequence[Event]) -> list[bool]:
        """See `ports.EventBus.publish`."""
        if self._bump is not None:
            for tenant, states in touched(events).items():
                await self._bump(tenant, states)
        async with self._database.service() as connection:
            await self._look(connection)
            if self._behind is not None:
                raise Overloaded(
                    f"The handler {self._behind!r} is {self._max_backlog} deliveries or more behind. Send the events again later.",
                    retry_after_s=1.0,
                )
            return await append(connection, events, now=self._now())

    async def _look(self, connection: Connection) -> None:
        """Who is too far behind, by what was seen a moment ago."""
        if self._looked_at is None or time.monotonic() - self._looked_at >= self._look_s:
            self._looked_at = time.monotonic()
            rows = await (await connection.execute(sql.CROWDED, {"most": self._max_backlog})).fetchall()
            self._behind = next((handler for handler, waiting in rows if waiting >= self._max_backlog), None)

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """See `ports.EventBus.subscribe`."""
        values = {
            "handlers": [one.handler for one in subscriptions],
            "types": ["{" + ",".join(f'"{kind}"' for kind in one.types) + "}" for one in subscriptions],
            "pers": [one.per for one in subscriptions],
            "mosts": [one.most for one in subscriptions],
            "lingers": [one.linger_s for one in subscriptions],
        }
        async with self._database.service() as connection:
            await connection.execute(sql.SUBSCRIBING)
            await connection.execute(sql.SUBSCRIBE, values)
            await connection.execute(sql.UNSUBSCRIBE, values)

    async def take(self, handler: str, *, lanes: int, lease_s: float) -> list[Delivery]:
        """See `ports.EventBus.take`."""
        token = secrets.randbits(_TOKEN_BITS)
        values = {"handler": handler, "lanes": lanes, "lease_s": lease_s, "token": token, "now": self._now()}
        async with self._database.service(lazy=True) as connection:
            leased = await (await connection.execute(sql.LEASE, values)).fetchall()
            if not leased:
                return []
            places = {"handler": handler, "tenants": [one[0] for one in leased], "lanes": [one[1] for one in leased]}
            rows = await (await connection.execute(sql.CONTENT, places)).fetchall()
        content: dict[int, list[tuple[int, Event]]] = {}
        for place, attempts, *event in rows:
            content.setdefault(place, []).append((attempts, _event(event)))
        return [_delivery(handler, token, lane, content[place]) for place, lane in enumerate(leased, 1) if place in content]

    async def extend(self, delivery: Delivery, lease_s: float) -> Delivery | None:
        """See `ports.EventBus.extend`."""
        async with self._database.service(lazy=True) as connection:
            values = {**_key(delivery), "lease_s": lease_s, "now": self._now()}
            row = await (await connection.execute(sql.EXTEND, values)).fetchone()
        return None if row is None else msgspec.structs.replace(delivery, until=row[0])

    async def done(self, deliveries: Sequence[Delivery]) -> int:
        """See `ports.EventBus.done`."""
        if not deliveries:
            return 0
        async with self._database.service(lazy=True) as connection:
            held = await _held(connection, deliveries)
            await _through(connection, held, self._now())
        return len(held)

    async def failed(self, delivery: Delivery, error: str, retry_at: datetime | None) -> None:
        """See `ports.EventBus.failed`."""
        key, now = _key(delivery), self._now()
        async with self._database.service(lazy=retry_at is not None) as connection:
            if retry_at is not None:
                await connection.execute(sql.AGAIN, {**key, "at": retry_at, "upto": delivery.events[-1].position})
            elif not await _held(connection, [delivery]):
                return
            elif len(delivery.events) > 1:
                positions = [event.position for event in delivery.events]
                await connection.execute(sql.PART, {**key, "attempt": delivery.attempt, "positions": positions})
                await connection.execute(sql.PARTED, {**key, "now": now})
            else:
                dead = {"id": new_id(), "position": delivery.events[0].position, "attempt": delivery.attempt, "error": error, "now": now}
                await connection.execute(sql.BURY, {**key, **dead})
                await _through(connection, [delivery], now)

    async def dead(self, *, tenant: str | None, handler: str | None, limit: int) -> list[DeadLetter]:
        """See `ports.EventBus.dead`."""
        values = {"tenant": tenant, "handler": handler, "limit": limit}
        async with self._database.service() if tenant is None else self._database.tenant(tenant) as connection:
            rows = await (await connection.execute(sql.DEAD, values)).fetchall()
        return [
            DeadLetter(id=number, handler=of, event=_event(event), attempts=attempts, error=error, at=at)
            for number, of, attempts, error, at, *event in rows
        ]

    async def replay(self, ids: Sequence[UUID]) -> int:
        """See `ports.EventBus.replay`."""
        async with self._database.service() as connection:
            row = await (await connection.execute(sql.REPLAY, {"ids": list(ids), "now": self._now()})).fetchone()
        return 0 if row is None else int(row[0])

    async def tail(self, *, tenant: str | None, after: int, limit: int) -> list[Event]:
        """See `ports.EventBus.tail`. Over all tenants, an event may appear behind one that was stored by others at the same time."""
        statement = sql.TAIL.format(order="DESC" if after < 0 else "ASC")
        async with self._database.service() if tenant is None else self._database.tenant(tenant) as connection:
            values = {"tenant": tenant, "after": after, "limit": limit}
            rows = await (await connection.execute(statement.encode(), values)).fetchall()
        events = [_event(row) for row in rows]
        return events[::-1] if after < 0 else events

    async def backlog(self) -> list[Backlog]:
        """See `ports.EventBus.backlog`."""
        async with self._database.service() as connection:
            rows = await (await connection.execute(sql.BACKLOG, {"now": self._now()})).fetchall()
        return [Backlog(handler=handler, waiting=waiting, dead=dead, lag_s=lag) for handler, waiting, dead, lag in rows]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.EventBus.forget`."""
        if user_id == "":
            return 0  # nobody; among erasures it stands for everybody
        async with self._database.service() as connection:
            await erase(connection, tenant, "events", user_id, self._now())
        return await forget(self._database, tenant, user_id, self._now())

    async def prune(self, before: datetime, *, max_rows: int) -> int:
        """See `ports.EventBus.prune`. Returns 0 when another process is at it."""
        return await prune(self._database, before, max_rows, self._now() or utc_now())


def _key(delivery: Delivery) -> dict[str, Any]:
    return {"handler": delivery.handler, "tenant": delivery.tenant, "lane": delivery.lane, "token": delivery.token}


def _places(deliveries: Sequence[Delivery]) -> dict[str, Any]:
    return {
        "handlers": [one.handler for one in deliveries],
        "tenants": [one.tenant for one in deliveries],
        "lanes": [one.lane for one in deliveries],
    }


async def _held(connection: Connection, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Those whose leases are still held. Their lanes are locked."""
    values = {**_places(deliveries), "tokens": [one.token for one in deliveries]}
    rows = await (await connection.execute(sql.HELD, values)).fetchall()
    return [deliveries[place - 1] for (place,) in rows]


async def _through(connection: Connection, deliveries: Sequence[Delivery], now: datetime | None) -> None:
    """Their events need not be delivered any more; their lanes, which are locked, go on."""
    each = [(one, event.position) for one in deliveries for event in one.events]
    positions = {**_places([one for one, _ in each]), "positions": [position for _, position in each]}
    await connection.execute(sql.HANDLED, positions)
    await connection.execute(sql.SETTLE, {**_places(deliveries), "now": now})


def _delivery(handler: str, token: int, lane: TupleRow, content: Sequence[tuple[int, Event]]) -> Delivery:
    """What of a lane's head is delivered together.

    An event that was one of several which could not be handled comes alone; what is tried again are the same events as before.
    """
    tenant, name, tried, upto, until = lane
    attempts, first = content[0]
    same = [event for _, event in takewhile(lambda one: one[0] == 0 and (upto is None or one[1].position <= upto), content)]
    events = tuple(same) or (first,)
    return Delivery(handler=handler, tenant=tenant, lane=name, events=events, attempt=attempts + tried, until=until, token=token)


def _event(row: Sequence[Any]) -> Event:
    position, tenant, source, name, kind, subject, user, at, data, extensions, touches, received_at = row
    return Event(
        position=position,
        tenant=tenant,
        source=source,
        id=name,
        type=kind,
        subject=subject,
        user=user,
        time=at,
        data=None if data is None else msgspec.json.decode(data),
        extensions=msgspec.json.decode(extensions),
        touches=tuple(touches),
        received_at=received_at,
    )
