"""Reading and writing a CloudFront KeyValueStore. It has one version for the whole (ETag), and takes a write only on top of the latest.

Methods block: run them in a thread, one writer of a process at a time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from farthing.aws.calls import AwsCalls, code_of
from farthing.errors import Unavailable

_MOST_CHANGES: Final = 50
"""Keys in one update."""
_PAGE: Final = 50
_PAUSE_S: Final = 0.05
_PARALLEL: Final = 8


class Changes:
    """What a write puts and deletes. At most 50 of both; `None` deletes."""

    def __init__(self, values: dict[str, str | None]) -> None:
        self.puts = [{"Key": key, "Value": value} for key, value in values.items() if value is not None]
        self.deletes = [{"Key": key} for key, value in values.items() if value is None]


class KeyValues:
    """The KeyValueStore `arn`. `size` is its bytes, as it was told last."""

    def __init__(self, calls: AwsCalls, arn: str) -> None:
        self._calls = calls
        self._arn = arn
        self._etag: str | None = None
        self.size = 0

    @property
    def _kvs(self) -> Any:
        return self._calls.client("cloudfront-keyvaluestore")

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """Values of those that there are."""
        wanted = list(dict.fromkeys(keys))
        if len(wanted) <= 1:
            found = [(key, self._get(key)) for key in wanted]
        else:
            with ThreadPoolExecutor(min(_PARALLEL, len(wanted))) as pool:
                found = list(zip(wanted, pool.map(self._get, wanted), strict=True))
        return {key: value for key, value in found if value is not None}

    def _get(self, key: str) -> str | None:
        try:
            answer = self._kvs.get_key(KvsARN=self._arn, Key=key)
        except self._kvs.exceptions.ClientError as error:
            if code_of(error) == "ResourceNotFoundException" and self._is_there():
                return None
            raise
        self.size = int(answer["TotalSizeInBytes"])
        return str(answer["Value"])

    def _is_there(self) -> bool:
        """The store itself: AWS says the same of a store and of a key that it does not have."""
        if self._etag is None:
            self._etag = self._latest()
        return True

    def _latest(self) -> str:
        answer = self._kvs.describe_key_value_store(KvsARN=self._arn)
        self.size = int(answer["TotalSizeInBytes"])
        return str(answer["ETag"])

    def all(self) -> dict[str, str]:
        """Everything: at most 5 MB."""
        pages = self._kvs.get_paginator("list_keys").paginate(KvsARN=self._arn, PaginationConfig={"PageSize": _PAGE})
        return {item["Key"]: item["Value"] for page in pages for item in page["Items"]}

    def change(self, decide: Callable[[], dict[str, str | None] | None], until: float) -> bool:
        """Read, decide, and write on top of what was read; all of it again when somebody else wrote in between.

        `decide` says what is to be written; None: nothing, and this is False. More than 50 changes are several writes, each on top of the
        one before. Raises `Unavailable` at `until`, of the monotonic clock.
        """
        while True:
            etag = self._etag = self._etag or self._latest()
            wanted = decide()
            if wanted is None:
                return False
            if self._write(etag, wanted):
                return True
            if time.monotonic() >= until:
                raise Unavailable("CloudFront KeyValueStore is written by others all the time.")
            time.sleep(random.uniform(0, _PAUSE_S))  # noqa: S311 - so that two writers do not meet again

    def _write(self, etag: str, wanted: dict[str, str | None]) -> bool:
        items = list(wanted.items())
        for start in range(0, len(items), _MOST_CHANGES):
            changes = Changes(dict(items[start : start + _MOST_CHANGES]))
            try:
                answer = self._kvs.update_keys(KvsARN=self._arn, IfMatch=etag, Puts=changes.puts, Deletes=changes.deletes)
            except self._kvs.exceptions.ConflictException:
                self._etag = None
                return False
            except Exception:
                self._etag = None  # it may have been written, or not
                raise
            etag = self._etag = str(answer["ETag"])
            self.size = int(answer["TotalSizeInBytes"])
        return True
