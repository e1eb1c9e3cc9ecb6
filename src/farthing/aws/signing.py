"""Signature Version 4: how AWS knows who sends a request, and that nobody changed it on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from farthing.aws.credentials import Credentials, FoundCredentials, GivenCredentials, Keys, need_boto

_SIGNED_BY = re.compile(r"Credential=([^/]+)/")


class SigV4Signer:
    """Signs for one service in one region. See `ports.Signer`."""

    def __init__(self, credentials: Credentials, *, service: str, region: str) -> None:
        from botocore.auth import SigV4Auth  # noqa: PLC0415 - botocore is loaded by who uses AWS only
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415 - the same

        self._credentials = credentials
        self._service = service
        self._region = region
        self._auth = SigV4Auth
        self._request = AWSRequest

    async def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """See `ports.Signer.sign`."""
        keys = await self._credentials.current()
        request = self._request(method=method, url=url, data=body, headers=dict(headers))
        self._auth(_AsBotocore(keys), self._service, self._region).add_auth(request)
        given = {name.lower() for name in headers}
        return {name.lower(): value for name, value in request.headers.items() if name.lower() not in given}

    def renew(self, signed: Mapping[str, str]) -> bool:
        """See `ports.Signer.renew`."""
        by = _SIGNED_BY.search(signed.get("authorization", ""))
        return self._credentials.renew(by[1] if by else "")

    def secrets(self) -> Sequence[str]:
        """See `ports.Signer.secrets`."""
        return self._credentials.secrets()


class _AsBotocore:
    """Keys under the names that botocore reads."""

    def __init__(self, keys: Keys) -> None:
        self.access_key = keys.access_key_id
        self.secret_key = keys.secret_access_key
        self.token = keys.session_token


def signer(name: str, *, service: str, region: str, profile: str | None, keys: Keys | None, deadline_s: float) -> SigV4Signer:
    """A signer for a provider: with these keys, else with those that AWS's own tools would find. Raises `SettingsError`."""
    need_boto(f"providers.{name}")
    given = GivenCredentials(keys) if keys else FoundCredentials(name, region=region, profile=profile, deadline_s=deadline_s)
    return SigV4Signer(given, service=service, region=region)
