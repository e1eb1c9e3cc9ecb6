"""Calls to services of AWS: in threads, with a deadline and a bound, and with errors of ours."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

from farthing.aws.credentials import clients_of, in_thread, need_boto
from farthing.errors import InvalidRequest, Unavailable
from farthing.settings.aws_calls import AwsCallSettings

_Found = TypeVar("_Found")
_REFUSED = frozenset({"UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException", "InvalidClientTokenId"})
_MISSING = frozenset(
    {"ResourceNotFoundException", "NoSuchBucket", "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NotFoundException"}
)
_TOO_LARGE = frozenset({"InvalidMessageContents", "BatchRequestTooLong", "EntityTooLarge"})


class AwsCalls:
    """Clients of botocore, made when they are first needed, and threads for their calls.

    `what` names the setting in errors, `page` where to read on. Raises `SettingsError` without botocore.
    """

    def __init__(self, settings: AwsCallSettings, what: str, page: str) -> None:
        need_boto(what)
        self._settings = settings
        self._what = what
        self._page = page
        self._clients: dict[str, Any] = {}
        self._making = threading.Lock()
        self._turns = asyncio.Semaphore(settings.max_connections)

    def client(self, service: str) -> Any:
        """In a thread: loading botocore takes a third of a second."""
        with self._making:
            if service not in self._clients:
                self._clients[service] = self._made(service)
            return self._clients[service]

    def _made(self, service: str) -> Any:
        (client,) = clients_of(self._settings, service, attempts=3, connections=self._settings.max_connections)
        url = self._settings.endpoint_url
        if url is not None and service == "cloudfront-keyvaluestore":
            client.meta.events.register(f"before-sign.{service}", partial(_as_given, str(url)))
        return client

    async def run(self, work: Callable[[], _Found], what: str) -> _Found:
        """Run something that calls AWS. Raises `Unavailable`, after the deadline too: then it may still happen."""

        def told() -> _Found:
            with self.translated(what):
                return work()

        try:
            async with asyncio.timeout(self._settings.timeout_s), self._turns:
                return await in_thread(told, f"AWS: {what}")
        except TimeoutError:
            raise Unavailable(f"AWS could not {what} within {self._settings.timeout_s:g} s: see {self._what}.") from None

    @contextmanager
    def translated(self, what: str) -> Iterator[None]:
        """AWS's errors as ours. What it says itself stays in `__cause__`: it names accounts and roles."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - as above

        try:
            yield
        except ClientError as error:
            raise self._translation(code_of(error), what) from error
        except (BotoCoreError, OSError) as error:
            raise Unavailable(f"AWS cannot be reached to {what} ({type(error).__name__}): see {self._what}.") from error

    def _translation(self, code: str, what: str) -> Exception:
        if code in _MISSING:
            return Unavailable(
                f"AWS does not have what is needed to {what} ({code}): see {self._what}, and {self._page} for what makes it."
            )
        if code in _TOO_LARGE:
            return InvalidRequest(f"AWS cannot {what}: it is too large")
        if "AccessDenied" in code or code in _REFUSED:
            return Unavailable(f"AWS refuses to {what} ({code}): see {self._page} for the rights that are needed.")
        return Unavailable(f"AWS cannot {what} now ({code}).")


def _as_given(url: str, request: Any, **_: Any) -> None:
    """Send a request to the endpoint that the settings name: botocore puts the account's number in front of it."""
    request.url = urlsplit(request.url)._replace(netloc=urlsplit(url).netloc).geturl()


def code_of(error: Any) -> str:
    """The code of a botocore ClientError."""
    return str(error.response.get("Error", {}).get("Code"))
