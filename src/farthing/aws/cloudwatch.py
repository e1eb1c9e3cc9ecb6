"""What is spent per hour, as metrics of CloudWatch: sent there, or written as lines that somebody else takes there."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from farthing.aws.credentials import clients_of, in_thread, need_boto
from farthing.errors import FarthingError
from farthing.settings import CloudWatchSettings

_log = logging.getLogger("farthing.aws")
_STDOUT = 1
_FINE_S = 60
"""More often than this, CloudWatch must be told to keep them apart."""

Numbers = Callable[[], Awaitable[Mapping[str, float]]]


class CloudWatch:
    """Publishes numbers every `every_s` seconds. `published` and `failed` count. Nothing waits for it, and nothing fails with it.

    `numbers` gives them by name, such as `SpendUsdPerHour`. A round that fails or takes longer than `timeout_s` is dropped; the first one
    is logged, and the first one that succeeds again. `clock` tells the time in Unix seconds. Raises `SettingsError` without botocore.
    """

    def __init__(self, settings: CloudWatchSettings, numbers: Numbers, *, clock: Callable[[], float] = time.time) -> None:
        if settings.mode == "put":
            need_boto("telemetry.cloudwatch.mode: put")
        self._settings = settings
        self._numbers = numbers
        self._clock = clock
        self._client: Any = None
        self._under_way: asyncio.Future[None] | None = None
        self._failing = False
        self.published = 0
        self.failed = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.publish()
            await asyncio.sleep(self._settings.every_s)

    async def publish(self) -> None:
        """One round. Never raises."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._publish()
        except Exception as error:  # noqa: BLE001 - botocore's errors have no base of their own; whatever it is, requests go on
            self.failed += 1
            if not self._failing:
                _log.warning("CloudWatch is not told what is spent: %s: %s", type(error).__name__, _said(error))
            self._failing = True
            return
        self.published += 1
        if self._failing:
            _log.warning("CloudWatch is told again what is spent")
        self._failing = False

    async def _publish(self) -> None:
        if self._under_way is not None and not self._under_way.done():
            raise TimeoutError("the last round is still under way")
        numbers = dict(await self._numbers())
        if not numbers:
            return
        at = self._clock()
        work = self._put if self._settings.mode == "put" else self._write
        self._under_way = future = in_thread(lambda: work(numbers, at), "CloudWatch")
        future.add_done_callback(_look_at)
        await asyncio.shield(future)

    def _put(self, numbers: Mapping[str, float], at: float) -> None:
        """Blocks."""
        if self._client is None:
            (self._client,) = clients_of(self._settings, "cloudwatch")
        fine = {"StorageResolution": 1} if self._settings.every_s < _FINE_S else {}
        self._client.put_metric_data(
            Namespace=self._settings.namespace,
            MetricData=[
                {"MetricName": name, "Timestamp": datetime.fromtimestamp(at, UTC), "Value": value, "Unit": "None", **fine}
                for name, value in numbers.items()
            ],
        )

    def _write(self, numbers: Mapping[str, float], at: float) -> None:
        """Blocks. A line is written at once, so that those of several workers do not mix."""
        line = embedded(self._settings.namespace, numbers, at) + b"\n"
        if self._settings.path is None:
            os.write(_STDOUT, line)
            return
        fd = os.open(self._settings.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            os.write(fd, line)
            if os.fstat(fd).st_size > self._settings.max_bytes:
                _turn(self._settings.path, fd)
        finally:
            os.close(fd)


def embedded(namespace: str, numbers: Mapping[str, float], at: float) -> bytes:
    """A line of CloudWatch's embedded metric format (its specification, version 0), without dimensions."""
    metrics = [{"Name": name, "Unit": "None"} for name in numbers]
    directive = {"Namespace": namespace, "Dimensions": [[]], "Metrics": metrics}
    return msgspec.json.encode({"_aws": {"Timestamp": round(at * 1000), "CloudWatchMetrics": [directive]}, **numbers})


def _turn(path: Path, fd: int) -> None:
    """Begin a new file, unless another worker just has."""
    with suppress(FileNotFoundError):
        if path.stat().st_ino == os.fstat(fd).st_ino:
            path.replace(path.with_name(f"{path.name}.1"))


def _said(error: Exception) -> str:
    return error.message if isinstance(error, FarthingError) else str(error)[:300]


def _look_at(done: asyncio.Future[None]) -> None:
    if not done.cancelled():
        done.exception()  # whoever still waits is told
