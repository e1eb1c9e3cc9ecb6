"""Documents that all workers agree on, in AWS AppConfig: for those who want modes decided, or seen, outside of Farthing.

A version is a deployment, by its number: what is deployed is what counts, also when somebody rolls back to an older text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

from farthing.aws.appconfig_calls import Clash, Denied, Deployment, Feed, Register, Told, clients, described, under_way
from farthing.aws.credentials import in_thread, need_boto
from farthing.config import checked_name, conflict, decoded, encoded, line
from farthing.errors import Conflict, InvalidRequest, Unavailable
from farthing.settings import AppConfigSettings
from farthing.types import Document, Json, utc_now

_MODES = "modes"
_MOST_HISTORY = 50
"""Each version in the history takes two calls."""
_PAUSE_S = 0.25
"""Between looks whether a deployment under way has ended."""
_WRITE_SHARE = 0.8
"""Of a write's time, after which nothing more is begun: nobody may be waiting for it any more."""
_Found = TypeVar("_Found")


class AppConfig:
    """`ports.ConfigStore` on AWS AppConfig. The document `modes` is the profile of the settings, any other one the profile of its name.

    Reading needs the data plane only: without rights on the control plane, versions are counted as they are seen, and nobody knows who
    wrote them. No worker is told of changes: they poll, and read within `poll_s` what they have. `clock` is monotonic, in seconds.
    Raises `SettingsError` without botocore.
    """

    def __init__(self, settings: AppConfigSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        need_boto("config.store: appconfig")
        self.poll_s = settings.poll_s
        self._settings = settings
        self._clock = clock
        self._profiles: dict[str, _Profile] = {}
        self._one_reads = asyncio.Lock()
        self._one_writes = asyncio.Lock()

    async def read(self, name: str) -> Document | None:
        """See `ports.ConfigStore.read`. Within `poll_s` it is what was read last."""
        checked_name(name)
        return await self._in_time(self._one_reads, lambda: self._profile(name).read(self._clock()), "read")

    async def write(self, name: str, body: Json, *, expect: int | None, by: str, reason: str) -> Document:
        """See `ports.ConfigStore.write`. After `Unavailable` it may have been written or not."""
        data = encoded(name, body)
        told = described(line(by), line(reason))
        until = time.monotonic() + _WRITE_SHARE * self._settings.timeout_s
        return await self._in_time(self._one_writes, lambda: self._profile(name).write(data, told, expect=expect, until=until), "write")

    async def history(self, name: str, limit: int) -> list[Document]:
        """See `ports.ConfigStore.history`. At most 50 versions."""
        checked_name(name)
        most = min(max(limit, 0), _MOST_HISTORY)
        return await self._in_time(self._one_writes, lambda: self._profile(name).history(most), "list versions")

    def _profile(self, name: str) -> _Profile:
        """In a thread: loading botocore takes a third of a second."""
        if name not in self._profiles:
            data, control = clients(self._settings)
            profile = self._settings.profile if name == _MODES else name
            made = _Profile(name, Feed(data, self._settings, profile), Register(control, self._settings, profile))
            self._profiles.setdefault(name, made)
        return self._profiles[name]

    async def _in_time(self, alone: asyncio.Lock, work: Callable[[], _Found], what: str) -> _Found:
        """In a thread, one at a time: of a network that hangs, one thread is the victim."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await alone.acquire()
                future = in_thread(work, "AWS AppConfig")
                future.add_done_callback(lambda done: _let_go(alone, done))
                return await asyncio.shield(future)
        except TimeoutError:
            raise Unavailable(f"AppConfig could not {what} within {self._settings.timeout_s:g} s.") from None


def _let_go(alone: asyncio.Lock, done: asyncio.Future[_Found]) -> None:
    alone.release()
    if not done.cancelled():
        done.exception()  # whoever still waits is told


class _Profile:
    """One document. Methods block."""

    def __init__(self, name: str, feed: Feed, register: Register) -> None:
        self._name = name
        self._feed = feed
        self._register = register
        self._held: tuple[Document, bytes] | None = None
        self._taken: bytes | None = None
        """What of the data plane's is in `_held`, or older than that; None: nothing yet."""

    def read(self, now: float) -> Document | None:
        self._feed.poll(now)
        if self._feed.content != self._taken:
            self._take(self._feed.content)
            self._taken = self._feed.content
        return None if self._held is None else _fresh(*self._held)

    def _take(self, content: bytes | None) -> None:
        """What the data plane serves now. It may lag behind what was written here a moment ago."""
        if content is None:
            self._held = None
            return
        try:
            decoded(self._name, content)
        except InvalidRequest as error:
            raise Unavailable(f"AppConfig serves what is no document: {error.message}") from None
        try:
            found = self._register.of(content)
        except Denied:
            found = None
        if found is None:
            version = 1 + (self._held[0].version if self._held else 0)
            self._hold(Document(name=self._name, version=version, body={}, at=utc_now(), by="external"), content)
            return
        served, newest = found
        if self._held is None or served.number >= self._held[0].version or newest.number != self._held[0].version:
            self._hold(self._document(served, self._register.told(served.number)), content)

    def _hold(self, document: Document, content: bytes) -> None:
        self._held = document, content

    def _document(self, deployment: Deployment, told: Told) -> Document:
        return Document(name=self._name, version=deployment.number, body={}, at=deployment.at, by=told.by, reason=told.reason)

    def write(self, data: bytes, told: Told, *, expect: int | None, until: float) -> Document:
        last = self._turn(expect, until)
        version = self._register.create(data)
        while True:
            try:
                made = self._document(self._register.start(version, told, after=last), told)
                break
            except Clash:  # there was another one in between, of this profile or another one of the environment
                try:
                    last = self._turn(expect, until)
                except (Conflict, Unavailable):
                    with suppress(Unavailable):
                        self._register.delete(version)  # which was never deployed
                    raise
        self._hold(made, data)
        return _fresh(made, data)

    def _turn(self, expect: int | None, until: float) -> int:
        """Wait until AWS takes a deployment. The number of the last one. Raises `Conflict` when ours is not as expected, `Unavailable`."""
        while True:
            last, newest = self._register.newest(1)
            if expect is not None and expect != (newest[0].number if newest else 0):
                raise self._conflict(newest[0] if newest else None, expect)
            if time.monotonic() >= until:
                raise Unavailable("AppConfig is busy with other deployments.")
            if not newest or not under_way(newest[0]):
                return last
            time.sleep(_PAUSE_S)

    def _conflict(self, newest: Deployment | None, expect: int) -> Conflict:
        """It names the latest version, which the next reader gets, whatever was read last and when."""
        self._feed.forget()
        self._taken = None
        latest = None if newest is None else self._document(newest, self._register.told(newest.number))
        return conflict(self._name, latest, expect)

    def history(self, limit: int) -> list[Document]:
        _, found = self._register.newest(limit)
        documents = []
        for one in found:
            with suppress(InvalidRequest):  # what is no document was none of ours
                body = decoded(self._name, self._register.content(one.version))
                document = self._document(one, self._register.told(one.number))
                documents.append(msgspec.structs.replace(document, body=body))
        return documents


def _fresh(document: Document, content: bytes) -> Document:
    """With a body of its own: what a reader changes in it changes nothing here."""
    return msgspec.structs.replace(document, body=decoded(document.name, content))
