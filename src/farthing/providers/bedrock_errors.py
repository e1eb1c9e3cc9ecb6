"""What Amazon Bedrock's errors mean, by their names.

Source: AWS, "Amazon Bedrock API Reference": errors of Converse, ConverseStream and InvokeModel, common errors; and the exceptions that can
come in the middle of a stream. A test holds the table against botocore's own list.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from farthing.errors import (
    UpstreamContextExceeded,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRefusedUs,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.providers.contexts import says_too_long
from farthing.providers.wire import STATUS_ERRORS, excerpt, retry_after, text


class CredentialsExpired(UpstreamRefusedUs):
    """Our credentials have run out: with new ones the same request may succeed."""


NAMED: Mapping[str, type[UpstreamError]] = {
    "AccessDenied": UpstreamRefusedUs,
    "AccessDeniedException": UpstreamRefusedUs,
    "ExpiredToken": CredentialsExpired,
    "ExpiredTokenException": CredentialsExpired,
    "IncompleteSignature": UpstreamRefusedUs,
    "InternalFailure": UpstreamUnavailable,
    "InternalServerException": UpstreamUnavailable,
    "InvalidClientTokenId": UpstreamRefusedUs,
    "InvalidSignatureException": UpstreamRefusedUs,
    "MissingAuthenticationToken": UpstreamRefusedUs,
    "MissingAuthenticationTokenException": UpstreamRefusedUs,
    "ModelErrorException": UpstreamUnavailable,
    "ModelNotReadyException": UpstreamUnavailable,
    "ModelStreamErrorException": UpstreamUnavailable,
    "ModelTimeoutException": UpstreamTimeout,
    "NotAuthorized": UpstreamRefusedUs,
    "OptInRequired": UpstreamRefusedUs,
    "RequestExpired": UpstreamRefusedUs,
    "ResourceNotFoundException": UpstreamRejected,
    "ServiceQuotaExceededException": UpstreamRateLimited,
    "ServiceUnavailable": UpstreamUnavailable,
    "ServiceUnavailableException": UpstreamUnavailable,
    "SignatureDoesNotMatch": UpstreamRefusedUs,
    "Throttling": UpstreamRateLimited,
    "ThrottlingException": UpstreamRateLimited,
    "TooManyRequestsException": UpstreamRateLimited,
    "UnrecognizedClientException": UpstreamRefusedUs,
    "ValidationError": UpstreamRejected,
    "ValidationException": UpstreamRejected,
}
_FAILED_DEPENDENCY = 424


def error_of(name: str, status: int, headers: Mapping[str, str], data: bytes) -> UpstreamError:
    """The error for an answer whose status is not 200."""
    body = _body(data)
    called = _called(headers.get("x-amzn-errortype") or body.get("__type") or body.get("code"))
    kind = NAMED.get(called or "") or STATUS_ERRORS.get(status)
    if kind is None:
        unavailable = status >= 500 or status == _FAILED_DEPENDENCY  # noqa: PLR2004 - RFC 9110: 5xx is the server's fault
        kind = UpstreamUnavailable if unavailable else UpstreamRejected if 400 <= status < 500 else UpstreamMalformed  # noqa: PLR2004
    said = said_in(data) or f"{name} answered status {status}: {excerpt(data)}"
    return _made(kind, name, called, said, status, retry_after(headers))


def error_inside(name: str, headers: Mapping[str, str], payload: bytes) -> UpstreamError:
    """The error for a message of a stream that is an exception (a name and JSON) or an error (a code and a text in its headers)."""
    called = _called(headers.get(":exception-type") or headers.get(":error-code"))
    named = called[:1].upper() + called[1:] if called else None
    said = said_in(payload) or text(headers.get(":error-message")) or f"{name} broke its stream off: {named}"
    return _made(NAMED.get(named or "", UpstreamUnavailable), name, named, said, None, None)


def said_in(data: bytes) -> str | None:
    """The words of an error; None when it has none."""
    body = _body(data)
    return text(body.get("message") or body.get("Message"))


def _made(
    kind: type[UpstreamError], name: str, called: str | None, said: str, status: int | None, retry_after_s: float | None
) -> UpstreamError:
    if issubclass(kind, UpstreamRefusedUs):
        # AWS's text names accounts, roles and what should have been signed: none of the caller's business.
        why = called or f"status {status}"
        return kind(
            f"{name} refused the credentials in Farthing's settings ({why}); the operator must mend providers.{name}",
            upstream_status=status,
        )
    if kind is UpstreamRejected and says_too_long(said):
        kind = UpstreamContextExceeded
    return kind(said, upstream_status=status, upstream_code=called, retry_after_s=retry_after_s)


def _body(data: bytes) -> dict[str, object]:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _called(name: object) -> str | None:
    """The bare name of an error: AWS puts a namespace before it (`com.amazon…#Name`) or an address behind it (`Name:http://…`)."""
    return text(name.partition(":")[0].rpartition("#")[2].strip()[:128]) if isinstance(name, str) else None
