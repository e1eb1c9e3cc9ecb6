"""Credentials for AWS, given in the settings or found where AWS's own tools look, never waited for without a deadline."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import msgspec

from farthing.errors import SettingsError, UpstreamError, UpstreamRefusedUs, UpstreamTimeout, UpstreamUnavailable

_log = logging.getLogger("farthing.aws")
_Found = TypeVar("_Found")

_EARLY_S = 15 * 60
"""This long before their end credentials are renewed behind the requests that still use them: botocore's own advisory time."""
_LATE_S = 60
"""This long before their end they are not used any more."""
_PAUSE_S = 2.0
"""Between two attempts to get credentials: a role service that is away is not asked by each request."""

REFUSALS = frozenset(
    {
        "ClientError",
        "ConfigNotFound",
        "ConfigParseError",
        "InfiniteLoopConfigError",
        "InvalidConfigError",
        "MissingDependencyException",
        "NoAuthTokenError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
        "UnknownCredentialError",
    }
)
"""Names of botocore's errors that only the operator can mend. Every other failure may pass."""
_MAY_PASS = frozenset({429, 500, 502, 503, 504})
"""Statuses of the role service that say nothing about the role."""


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is signed with. Its text shows nothing of it."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return "Keys(…)"


class Credentials(Protocol):
    """Where keys come from."""

    async def current(self) -> Keys:
        """Keys that are valid now. Raises `UpstreamRefusedUs`, `UpstreamUnavailable` or `UpstreamTimeout` when there are none."""

    def renew(self, access_key_id: str) -> bool:
        """AWS said that these keys have expired: get others for the next request. False when there is nowhere to get them."""

    def secrets(self) -> list[str]:
        """What must not show in any message."""


class GivenCredentials:
    """Those of the settings: they stay as they are."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def current(self) -> Keys:
        """See `Credentials.current`."""
        return self._keys

    def renew(self, access_key_id: str) -> bool:
        """See `Credentials.renew`."""
        del access_key_id
        return False

    def secrets(self) -> list[str]:
        """See `Credentials.secrets`."""
        return _secrets(self._keys)


class FoundCredentials:
    """Those of botocore's chain: environment, profile, web identity, process, container, instance.

    `name` is for error messages, `profile` one of the user's AWS files, `region` that of the role service. Looking is blocking and happens
    in a thread, one at a time; who needs the result waits at most `deadline_s` seconds. Keys that run out are renewed before they do.
    """

    def __init__(self, name: str, *, region: str, profile: str | None, deadline_s: float) -> None:
        self._name = name
        self._region = region
        self._profile = profile
        self._deadline = deadline_s
        self._source: Any = None
        self._keys: Keys | None = None
        self._looking: asyncio.Future[tuple[Any, Keys]] | None = None
        self._failure: BaseException | None = None
        self._looked_at = 0.0

    async def current(self) -> Keys:
        """See `Credentials.current`."""
        keys = self._keys
        if keys is not None and not self._ends_within(_EARLY_S):
            return keys
        looking = self._look()
        if keys is not None and not self._ends_within(_LATE_S):
            return keys
        if looking is None:
            assert self._failure is not None
            raise _translated(self._name, self._failure)
        try:
            async with asyncio.timeout(self._deadline):
                _, found = await asyncio.shield(looking)
        except TimeoutError:
            raise UpstreamTimeout(f"{self._name}: AWS gave no credentials within {self._deadline:.3g} s") from None
        except Exception as error:  # noqa: BLE001 - botocore's errors have no base of their own
            raise _translated(self._name, error) from None
        return found

    def _ends_within(self, seconds: float) -> bool:
        runs_out = getattr(self._source, "refresh_needed", None)
        return bool(runs_out and runs_out(seconds))

    def _look(self) -> asyncio.Future[tuple[Any, Keys]] | None:
        """The look-up under way, a new one if it is time for it, or None right after a failure."""
        if self._looking is None:
            if time.monotonic() - self._looked_at < _PAUSE_S and (self._failure or self._keys):
                return None
            source = self._source
            self._looking = in_thread(lambda: _found(source, self._profile, self._region), f"AWS credentials of {self._name}")
            self._looking.add_done_callback(self._looked)
        return self._looking

    def _looked(self, looking: asyncio.Future[tuple[Any, Keys]]) -> None:
        self._looking = None
        self._looked_at = time.monotonic()
        self._failure = error = looking.exception()
        if error is None:
            self._source, self._keys = looking.result()
        else:
            _log.warning("%s: no credentials from AWS: %s: %s", self._name, type(error).__name__, error)

    def renew(self, access_key_id: str) -> bool:
        """See `Credentials.renew`. The chain is walked anew, files included."""
        if self._keys is not None and self._keys.access_key_id == access_key_id:
            self._source = self._keys = None
            self._looked_at = 0.0
        return True

    def secrets(self) -> list[str]:
        """See `Credentials.secrets`."""
        return _secrets(self._keys) if self._keys else []


def _secrets(keys: Keys) -> list[str]:
    return [text for text in (keys.secret_access_key, keys.session_token, keys.access_key_id) if text]


def _found(source: Any, profile: str | None, region: str) -> tuple[Any, Keys]:
    """The credentials as botocore holds them, and the keys that they are now. Blocks."""
    from botocore.exceptions import NoCredentialsError  # noqa: PLC0415 - botocore is loaded by who uses AWS only
    from botocore.session import Session  # noqa: PLC0415 - the same

    if source is None:
        session = Session(profile=profile)
        session.set_config_variable("region", region)
        source = session.get_credentials()
    if source is None:
        raise NoCredentialsError
    frozen = source.get_frozen_credentials()
    if not frozen.access_key or not frozen.secret_key:
        raise NoCredentialsError
    return source, Keys(access_key_id=frozen.access_key, secret_access_key=frozen.secret_key, session_token=frozen.token or None)


def _translated(name: str, error: BaseException) -> UpstreamError:
    """What it means for a request that there are no credentials. What botocore says is for the log: it names files and roles."""
    names = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if names & REFUSALS and status not in _MAY_PASS:
        return UpstreamRefusedUs(f"{name} has no AWS credentials ({type(error).__name__}); the operator must mend providers.{name}")
    return UpstreamUnavailable(f"{name} cannot get AWS credentials now ({type(error).__name__})")


def in_thread(work: Callable[[], _Found], what: str) -> asyncio.Future[_Found]:
    """Run something blocking in a thread of its own that nobody has to wait for: not a request, and not the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Found] = loop.create_future()

    def settle(result: _Found | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only where `work` returns it

    def run() -> None:
        try:
            outcome: tuple[_Found | None, Exception | None] = (work(), None)
        except Exception as error:  # noqa: BLE001 - handed to who waits
            outcome = (None, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name=what, daemon=True).start()
    return future


class Place(Protocol):
    """Where services of AWS are and who calls them, as the settings have it. `timeout_s` is for a call with all its attempts."""

    @property
    def region(self) -> str | None:
        """None: as the environment says."""

    @property
    def aws_profile(self) -> str | None:
        """None: whoever the environment says."""

    @property
    def endpoint_url(self) -> object:
        """None: AWS's own."""

    @property
    def timeout_s(self) -> float:
        """Seconds."""


def clients_of(place: Place, *services: str, attempts: int = 2, connections: int = 10) -> list[Any]:
    """Clients of botocore, one for each service. Blocks for a third of a second the first time; raises botocore's errors."""
    from botocore.config import Config  # noqa: PLC0415 - botocore is loaded by who uses AWS only
    from botocore.session import Session  # noqa: PLC0415 - the same

    each = place.timeout_s / 2
    retries = {"mode": "standard", "total_max_attempts": attempts}
    config = Config(connect_timeout=each, read_timeout=each, retries=retries, max_pool_connections=connections)
    url = None if place.endpoint_url is None else str(place.endpoint_url)
    session = Session(profile=place.aws_profile)
    return [session.create_client(service, region_name=place.region, endpoint_url=url, config=config) for service in services]


def need_boto(what: str) -> None:
    """See that botocore is there, and keep it from logging at level debug what it signs. Raises `SettingsError`."""
    try:
        import botocore.session  # noqa: PLC0415 - takes a third of a second
    except ImportError:
        raise SettingsError(f"{what} needs the package boto3: pip install 'farthing[aws]'") from None
    del botocore
    for name in ("botocore", "boto3", "urllib3"):
        logging.getLogger(name).setLevel(logging.INFO)
