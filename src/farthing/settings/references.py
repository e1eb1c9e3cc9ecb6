"""`${…}` inside a value of the settings file: an environment variable, a file, or a secret in a vault.

`${NAME}`, `${file:/run/secrets/openai}`, `${aws-secret:NAME}`, `${aws-secret:NAME#field}`. A vault is whatever knows secrets by name; the
composition root says which there are. No message here ever holds a value.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from farthing.errors import SettingsError
from farthing.settings.providers import AwsSettings

_log = logging.getLogger("farthing.settings")
_REFERENCE = re.compile(r"\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<scheme>[a-z][a-z0-9-]*):(?P<reference>[^{}]+))\}")
_FILE = "file"
_MAX_BYTES = 64 * 1024
_SHORTEST_SECRET = 6
"""A shorter one is masked where it is the whole value only: it would be found in ordinary words."""
_MASK = "**********"

Vault = Callable[[str], str]
"""The secret of that name. Blocks, for a bounded time. Raises `SettingsError` that names the secret."""

OpenVault = Callable[[AwsSettings], Vault]
"""Opens a vault for one load of the settings. Not called before something is asked for."""


class Secrets:
    """What the references to files and vaults of one load stand for, each looked up once.

    `vaults` by scheme; `known` is what an earlier load found, as `found` had it: that is not looked up again. So workers get the values
    that their supervisor read, and a vault that is away keeps none of them from starting.
    """

    def __init__(self, vaults: Mapping[str, OpenVault] | None = None, known: Mapping[str, str] | None = None) -> None:
        self._vaults = vaults or {}
        self._open: dict[str, Vault] = {}
        self.found: dict[str, str] = dict(known or {})
        """By reference, such as `file:/run/secrets/openai`."""

    def look_up(self, scheme: str, reference: str, aws: Callable[[], AwsSettings]) -> str:
        """The value of a reference. Raises `SettingsError`."""
        whole = f"{scheme}:{reference}"
        if whole not in self.found:
            self.found[whole] = _read(Path(reference)) if scheme == _FILE else self._vault(scheme, aws)(reference)
        return self.found[whole]

    def _vault(self, scheme: str, aws: Callable[[], AwsSettings]) -> Vault:
        if scheme not in self._open:
            if scheme not in self._vaults:
                raise SettingsError(f"there is no ${{{scheme}:…}}; known: {', '.join(sorted([_FILE, *self._vaults]))}")
            self._open[scheme] = self._vaults[scheme](aws())
        return self._open[scheme]

    def mask(self, value: Any) -> Any:
        """A dumped section without any of the secrets, also where they were put into a setting that is not one for secrets."""
        return _masked(value, sorted(self.found.values(), key=len, reverse=True))


def interpolate(value: Any, environ: Mapping[str, str], secrets: Secrets, aws: Callable[[], AwsSettings], where: str = "") -> Any:
    """A part of the settings file with its references replaced. Raises `SettingsError` that names the setting at fault."""
    if isinstance(value, dict):
        return {key: interpolate(item, environ, secrets, aws, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, environ, secrets, aws, f"{where}[{at}]") for at, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def look_up(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            try:
                return secrets.look_up(match["scheme"], match["reference"], aws)
            except SettingsError as error:
                raise SettingsError(f"{where}: {error.message}") from None
        if name not in environ:
            raise SettingsError(f"{where}: the environment variable {name} is not set")
        return environ[name]

    return _REFERENCE.sub(look_up, value)


def _read(path: Path) -> str:
    """The text of a secret file without the line end that editors leave."""
    if not path.is_absolute():
        raise SettingsError(f"the secret file {path} must be named with its whole path, from / on")
    try:
        mode, data = _bytes_of(path)
    except OSError as error:
        raise SettingsError(f"cannot read the secret file {path}: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise SettingsError(f"the secret file {path} is larger than {_MAX_BYTES} bytes; that is no secret")
    try:
        text = data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SettingsError(f"the secret file {path} is not text in UTF-8") from None
    if not text:
        raise SettingsError(f"the secret file {path} is empty")
    if mode & stat.S_IROTH:
        _log.warning("everyone on this machine can read the secret file %s (mode %o); chmod 600 it", path, stat.S_IMODE(mode))
    return text


def _bytes_of(path: Path) -> tuple[int, bytes]:
    """Mode and content, one byte more than a secret may have at most."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # blocking, a pipe that nobody writes to would wait for ever
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise SettingsError(f"the secret file {path} is not a file")
        return mode, os.read(fd, _MAX_BYTES + 1)
    finally:
        os.close(fd)


def _masked(value: Any, secrets: Iterable[str]) -> Any:
    if isinstance(value, dict):
        return {key: _masked(item, secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, secrets) for item in value]
    if not isinstance(value, str):
        return value
    for secret in secrets:
        if value == secret:
            return _MASK
        if len(secret) >= _SHORTEST_SECRET:
            value = value.replace(secret, _MASK)
    return value
