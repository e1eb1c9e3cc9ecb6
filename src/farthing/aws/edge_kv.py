"""`ports.EdgeStore` in CloudFront KeyValueStore, where functions at the edge read it, and S3 for what does not fit into 1 KB.

The versions of states are keys of the same store. As a write is taken only on top of the latest one, an answer is stored only if no state
that it was computed from has changed up to that very write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from farthing.aws.calls import AwsCalls
from farthing.aws.edge_codec import (
    Head,
    NotOurs,
    answer_key,
    answer_of,
    decode,
    encode,
    erasure_key,
    micros,
    moment,
    object_key,
    owner_prefix,
    part,
    version_key,
)
from farthing.aws.edge_dead import fresh, superfluous
from farthing.aws.edge_values import KeyValues
from farthing.errors import SettingsError, Unavailable
from farthing.settings.edge_aws import CloudFrontSettings
from farthing.types import EdgeAnswer, time_of, utc_now

_WRITE_SHARE: Final = 0.8
"""Of an operation's time, after which nothing more is begun."""
_ERASURES_KEPT: Final = timedelta(days=7)
_ROOM: Final = 0.9
"""Of `max_bytes`, that stays when room is made."""


class CloudFrontEdge:
    """See the module. What is written here is at every edge some seconds later, as CloudFront has it: see docs/edge-aws.md.

    Reading here is by the API, and never stale. Each write is one of the whole store: one at a time from here, and those of others make it
    try again. Raises `SettingsError` without botocore, or without an ARN.
    """

    def __init__(self, settings: CloudFrontSettings, *, now: Callable[[], datetime] = utc_now) -> None:
        if settings.store is None:
            raise SettingsError("foresight.edge.cloudfront.store: the ARN of a KeyValueStore is needed: see docs/edge-aws.md")
        self._settings = settings
        self._now = now
        self._calls = AwsCalls(settings, "foresight.edge.store: cloudfront", "docs/edge-aws.md")
        self._values = KeyValues(self._calls, settings.store)
        self._one_writes = asyncio.Lock()

    @property
    def _s3(self) -> Any:
        return self._calls.client("s3")

    def _until(self) -> float:
        return time.monotonic() + _WRITE_SHARE * self._settings.timeout_s

    # answers

    async def get(self, tenant: str, user: str, action: str) -> EdgeAnswer | None:
        """See `ports.EdgeStore.get`."""
        return await self._calls.run(lambda: self._get(tenant, user, action), "read an answer")

    def _get(self, tenant: str, user: str, action: str) -> EdgeAnswer | None:
        """The answer first, and the versions after it: they only go up."""
        key = answer_key(tenant, user, action)
        found = self._values.get([key]).get(key)
        if found is None:
            return None
        try:
            head, given = decode(found)
            if moment(head.e) <= self._now() or not self._current(tenant, head):
                return None
            return answer_of(tenant, user, action, head, given.encode() if head.p is None else self._object(head.p))
        except NotOurs:
            return None

    def _current(self, tenant: str, head: Head) -> bool:
        found = self._values.get(version_key(tenant, state) for state in head.v)
        return fresh(part(tenant), head, found)

    def _object(self, key: str) -> bytes:
        try:
            return bytes(self._s3.get_object(Bucket=self._settings.bucket, Key=key)["Body"].read())
        except self._s3.exceptions.NoSuchKey:
            raise NotOurs("the object is gone") from None

    async def put(self, answer: EdgeAnswer) -> bool:
        """See `ports.EdgeStore.put`. False also where it does not fit into 1 KB and no bucket is set, or the names of its states do not."""
        async with self._one_writes:
            until = self._until()
            return await self._calls.run(lambda: self._put(answer, until), "store an answer")

    def _put(self, answer: EdgeAnswer, until: float) -> bool:
        made = encode(answer)
        if made.value is None or (made.points and self._settings.bucket is None):
            return False
        key = answer_key(answer.tenant, answer.user, answer.action)
        if not self._may(answer, key):
            return False
        if made.points:  # before what points to it
            self._s3.put_object(
                Bucket=self._settings.bucket,
                Key=object_key(answer),
                Body=made.given,
                ContentType=made.kind,
                CacheControl="private, no-cache",
            )
        stored = self._values.change(lambda: {key: made.value} if self._may(answer, key) else None, until)
        if not stored and made.points:
            self._s3.delete_object(Bucket=self._settings.bucket, Key=object_key(answer))
        if stored and self._values.size > self._settings.max_bytes:
            with suppress(Unavailable):  # the next one tries again
                self._prune(until, max_bytes=int(self._settings.max_bytes * _ROOM))
        return stored

    def _may(self, answer: EdgeAnswer, key: str) -> bool:
        """By what is there now: nobody was forgotten since the request began, no state is another, and no fresher answer is there."""
        tenant = answer.tenant
        states = {state: version_key(tenant, state) for state in answer.versions}
        erasures = [erasure_key(tenant, None), erasure_key(tenant, answer.user)]
        found = self._values.get([key, *states.values(), *erasures])
        begun = micros(time_of(answer.request_id))
        if any(begun <= int(found[each]) for each in erasures if each in found):
            return False
        if any(int(found.get(states[state], "0")) != version for state, version in answer.versions.items()):
            return False
        with suppress(KeyError, NotOurs):
            head, _ = decode(found[key])
            newer = head.t > micros(answer.made_at) and moment(head.e) > self._now()
            return not (newer and self._current(tenant, head))
        return True

    # states

    async def versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """See `ports.EdgeStore.versions`."""
        return await self._calls.run(lambda: self._versions(tenant, states), "read versions of states")

    def _versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        found = self._values.get(version_key(tenant, state) for state in states)
        return {state: int(found.get(version_key(tenant, state), "0")) for state in states}

    async def bump(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """See `ports.EdgeStore.bump`."""
        if not states:
            return {}
        told: dict[str, int] = {}

        def decide() -> dict[str, str | None]:
            told.clear()
            told.update({state: version + 1 for state, version in self._versions(tenant, states).items()})
            return {version_key(tenant, state): str(version) for state, version in told.items()}

        async with self._one_writes:
            until = self._until()
            await self._calls.run(lambda: self._values.change(decide, until), "change versions of states")
        return told

    # forgetting

    async def forget(self, tenant: str, user_id: str | None) -> int:
        """See `ports.EdgeStore.forget`."""
        async with self._one_writes:
            until = self._until()
            return await self._calls.run(lambda: self._forget(tenant, user_id, until), "forget answers")

    def _forget(self, tenant: str, user: str | None, until: float) -> int:
        """First it is noted, so that whoever stores later sees it; then what is there goes."""
        noted = {erasure_key(tenant, user): str(micros(self._now()))}
        self._values.change(lambda: dict(noted), until)
        gone: list[str] = []

        def decide() -> dict[str, str | None] | None:
            gone[:] = [key for key in self._values.all() if key.startswith(owner_prefix(tenant, user))]
            return dict.fromkeys(gone) or None

        self._values.change(decide, until)
        self._delete_objects(owner_prefix(tenant, user).replace(".", "/"))
        return len(gone)

    def _delete_objects(self, prefix: str) -> None:
        if self._settings.bucket is None:
            return
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._settings.bucket, Prefix=prefix):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", [])]
            if keys:
                self._s3.delete_objects(Bucket=self._settings.bucket, Delete={"Objects": keys, "Quiet": True})

    async def close(self) -> None:
        """See `ports.EdgeStore.close`. There is nothing to let go of: idle connections end by themselves."""

    async def prune(self, max_rows: int) -> int:
        """See `ports.EdgeStore.prune`."""
        async with self._one_writes:
            until = self._until()
            return await self._calls.run(lambda: self._prune(until, max_rows=max_rows), "prune answers")

    def _prune(self, until: float, *, max_rows: int | None = None, max_bytes: int | None = None) -> int:
        gone: list[tuple[str, Head | None]] = []

        def decide() -> dict[str, str | None] | None:
            there = self._values.all()
            gone[:] = superfluous(there, self._now(), max_rows=max_rows, max_bytes=max_bytes)
            return dict.fromkeys([*(key for key, _ in gone), *old_erasures(there, self._now())]) or None

        self._values.change(decide, until)
        for _, head in gone:
            if head is not None and head.p is not None:
                with suppress(Exception):  # the bucket's own expiry comes after us
                    self._s3.delete_object(Bucket=self._settings.bucket, Key=head.p)
        return len(gone)


def old_erasures(there: dict[str, str], now: datetime) -> list[str]:
    """Their keys."""
    before = micros(now - _ERASURES_KEPT)
    return [key for key, value in there.items() if key.startswith("f.") and int(value) < before]
