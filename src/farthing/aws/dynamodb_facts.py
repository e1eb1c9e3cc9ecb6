"""Facts of users in Amazon DynamoDB: what holds now is one item of each user, read in one call."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from farthing.aws.credentials import in_thread, need_boto
from farthing.aws.dynamodb_calls import KEPT_FOR_S, Bundle, Clash, Held, Table, in_time, microseconds
from farthing.errors import Unavailable
from farthing.facts import Most, checked, checked_user, holds, in_order, is_open, learn, retracted
from farthing.settings import DynamoDbSettings
from farthing.types import Fact, NewFact, Profile, utc_now

_Found = TypeVar("_Found")
_LONGEST_PAUSE_S: Final = 0.1
_USERS: Final = 100


class DynamoDbFacts:
    """`ports.FactStore` on one table of DynamoDB, which `deploy/aws/memory` makes.

    What has ended is kept for `settings.history_s`, and DynamoDB deletes it then by itself: `prune` has nothing to do. No worker is told
    of changes. `forget` takes as long as it takes; its caller sets the deadline. Raises `SettingsError` without botocore.
    """

    def __init__(self, settings: DynamoDbSettings, *, most: Most | None = None, clock: Callable[[], datetime] = utc_now) -> None:
        need_boto("memory.facts.store: dynamodb")
        self._settings = settings
        self._most = most or Most()
        self._clock = clock
        self._table: Table | None = None
        self._calls = asyncio.Semaphore(settings.max_calls)

    async def profile(self, tenant: str, user: str) -> Profile | None:
        """See `ports.FactStore.profile`."""
        held = await self._in_time(lambda table, _: table.profile(tenant, user, steady=True), "read")
        return self._shown(tenant, user, held) if held.known else None

    def _shown(self, tenant: str, user: str, held: Held) -> Profile:
        now = self._clock()
        return Profile(tenant=tenant, user=user, facts=tuple([one for one in held.facts if holds(one, now)]), version=held.version)

    async def learn(self, tenant: str, user: str, facts: Sequence[NewFact], *, arrived: datetime) -> Profile:
        """See `ports.FactStore.learn`."""
        new = checked(facts, self._clock())
        checked_user(user)
        return self._shown(
            tenant, user, await self._in_time(lambda table, until: self._learn(table, tenant, user, new, arrived, until), "learn")
        )

    def _learn(self, table: Table, tenant: str, user: str, new: Sequence[NewFact], arrived: datetime, until: float) -> Held:
        at = microseconds(arrived)

        def attempt() -> Held:
            now = self._clock()
            held = table.profile(tenant, user, steady=True)
            if not new or max(held.erased_us, table.erased_us(tenant)) >= at or arrived <= now - timedelta(seconds=KEPT_FOR_S):
                return held
            bundles = table.bundles(tenant, user)
            keys = {one.key for one in new}
            known = [one for bundle in bundles for one in bundle.facts if one.key in keys]
            learnt = learn(tenant, user, [*held.facts, *known], new, now=now, most=self._most)
            return _written(table, tenant, user, held, bundles, (learnt.facts, learnt.changed), at, now)

        return _again(attempt, until)

    async def retract(self, tenant: str, user: str, fact: UUID, *, by: str) -> bool:
        """See `ports.FactStore.retract`."""
        return await self._in_time(lambda table, until: self._retract(table, tenant, user, fact, by, until), "take back")

    def _retract(self, table: Table, tenant: str, user: str, fact: UUID, by: str, until: float) -> bool:
        def attempt() -> bool:
            now = self._clock()
            held, bundles = table.profile(tenant, user, steady=True), table.bundles(tenant, user)
            everything = [*held.facts, *(one for bundle in bundles for one in bundle.facts)]
            found = next((one for one in everything if one.id == fact and one.known_to is None), None)
            if found is None:
                return False
            rest = tuple([one for one in held.facts if one.id != fact])
            _written(table, tenant, user, held, bundles, (rest, (retracted(found, by=by, now=now),)), microseconds(now), now)
            return True

        return _again(attempt, until)

    async def history(self, tenant: str, user: str, *, key: str | None, limit: int) -> list[Fact]:
        """See `ports.FactStore.history`. What has expired is left out, whether DynamoDB has deleted it yet or not."""

        def read(table: Table, _: float) -> list[Fact]:
            held = table.profile(tenant, user, steady=True)
            return [*held.facts, *(one for bundle in table.bundles(tenant, user) for one in bundle.facts)]

        now = self._clock()
        found = await self._in_time(read, "read")
        live = [one for one in found if key in {None, one.key} and (one.expires_at is None or one.expires_at > now)]
        return in_order(live)[:limit]

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.FactStore.forget`."""
        if user_id == "":
            return 0
        now = self._clock()
        return await in_thread(lambda: self._forget(tenant, user_id, now), "DynamoDB")

    def _forget(self, tenant: str, user: str | None, now: datetime) -> int:
        table = self._opened()
        if user is not None:
            return table.forget(tenant, user, now)
        table.forget_tenant(tenant, now)
        gone = 0
        while users := table.users(tenant, most=_USERS):
            gone += sum(table.forget(tenant, one, now) for one in users)
        return gone

    async def prune(self, *, max_history: int) -> int:
        """See `ports.FactStore.prune`. DynamoDB prunes by itself, see `history_s`: always 0."""
        del max_history
        return 0

    def _opened(self) -> Table:
        """In a thread: loading botocore takes a third of a second."""
        if self._table is None:
            self._table = Table(self._settings)
        return self._table

    async def _in_time(self, work: Callable[[Table, float], _Found], what: str) -> _Found:
        """In a thread, with a deadline, and not too many at once: of a network that hangs, so many threads are the victims."""
        until = time.monotonic() + self._settings.timeout_s
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._calls.acquire()
                future = in_thread(lambda: work(self._opened(), until), "DynamoDB")
                future.add_done_callback(self._let_go)
                return await asyncio.shield(future)
        except TimeoutError:
            raise Unavailable(f"DynamoDB could not {what} within {self._settings.timeout_s:g} s.") from None

    def _let_go(self, done: asyncio.Future[_Found]) -> None:
        self._calls.release()
        if not done.cancelled():
            done.exception()  # whoever still waits is told


def _written(
    table: Table,
    tenant: str,
    user: str,
    held: Held,
    bundles: Sequence[Bundle],
    after: tuple[Sequence[Fact], Sequence[Fact]],
    arrived_us: int,
    now: datetime,
) -> Held:
    """Write the facts that hold and those that are others than they were; what has just ended goes into a bundle of its own."""
    facts, changed = after
    if not changed:
        return held
    ended = {one.id: one for one in changed if not is_open(one)}
    rewritten = []
    for bundle in bundles:
        ours = {one.id for one in bundle.facts} & ended.keys()
        if ours:
            rewritten.append(Bundle(name=bundle.name, facts=tuple([ended.pop(one.id, one) for one in bundle.facts])))
    fresh = [Bundle(name="", facts=tuple(ended.values()))] if ended else []
    version = table.write(tenant, user, held, facts, [*rewritten, *fresh], arrived_us=arrived_us, now=now)
    return Held(facts=tuple(facts), version=version, known=True)


def _again(attempt: Callable[[], _Found], until: float) -> _Found:
    """Until nobody else changes the same in between, as long as there is time."""
    pause = 0.001
    while True:
        try:
            return attempt()
        except Clash as error:
            if not in_time(until):
                raise Unavailable("too many change the facts of this user at once: try again", retry_after_s=1.0) from error
            time.sleep(random.uniform(0, pause))  # noqa: S311 - nothing secret
            pause = min(pause * 2, _LONGEST_PAUSE_S)
