"""What goes wrong inside of the `litellm` package, as our errors. Nothing of that package is imported: its classes are known by name.

It gives its exceptions classes and statuses that are at times not the vendor's (a 401 as `BadRequestError`, a refused connection as a 500)
and loses `retry-after`, but keeps what happened as the exception's cause. So the cause is asked first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
from farthing.providers import wire

_DEEPEST = 12

CAUSES: Mapping[str, type[UpstreamError]] = {
    "JSONDecodeError": UpstreamMalformed,
    "UnicodeDecodeError": UpstreamMalformed,
    "RecursionError": UpstreamMalformed,
    "BadStatusLine": UpstreamMalformed,
    "TimeoutException": UpstreamTimeout,
    "APITimeoutError": UpstreamTimeout,
    "ServerTimeoutError": UpstreamTimeout,
    "TimeoutError": UpstreamTimeout,
    "PayloadEncodingError": UpstreamUnavailable,
    "TransportError": UpstreamUnavailable,
    "RequestError": UpstreamUnavailable,
    "ClientError": UpstreamUnavailable,
    "ConnectionError": UpstreamUnavailable,
}
"""Classes of httpx, aiohttp, openai and Python that say what happened. A deeper cause counts before the ones above it."""

OWN: Mapping[str, type[UpstreamError]] = {
    "AuthenticationError": UpstreamRefusedUs,
    "PermissionDeniedError": UpstreamRefusedUs,
    "PaymentRequiredError": UpstreamRefusedUs,
    "BadRequestError": UpstreamRejected,
    "NotFoundError": UpstreamRejected,
    "UnprocessableEntityError": UpstreamRejected,
    "UnsupportedParamsError": UpstreamRejected,
    "ContextWindowExceededError": UpstreamContextExceeded,
    "RejectedRequestError": UpstreamRejected,
    "ContentPolicyViolationError": UpstreamRejected,
    "RateLimitError": UpstreamRateLimited,
    "Timeout": UpstreamTimeout,
    "APIResponseValidationError": UpstreamMalformed,
    "JSONSchemaValidationError": UpstreamMalformed,
    "InternalServerError": UpstreamUnavailable,
    "ServiceUnavailableError": UpstreamUnavailable,
    "BadGatewayError": UpstreamUnavailable,
    "APIError": UpstreamUnavailable,
    "APIConnectionError": UpstreamUnavailable,
    "OpenAIError": UpstreamUnavailable,
}
"""LiteLLM's own classes, for when no cause says more. Others count as `UpstreamUnavailable`."""


def translated(name: str, error: Exception) -> UpstreamError:
    """Our error for one of LiteLLM's."""
    chain = list(_chain(error))
    for one in chain:
        response = getattr(one, "response", None)
        status = getattr(response, "status_code", None)
        if not _is_litellms(one) and isinstance(status, int):
            return wire.error_of(name, status, _headers(response), _body(chain, error))
    for one in reversed(chain):
        if not _is_litellms(one) and (kind := _named(one, CAUSES)):
            return kind(f"{name} (by LiteLLM): {_said(error)}")
    kind = next((found for one in chain if (found := _named(one, OWN))), UpstreamUnavailable)
    if kind is UpstreamRefusedUs:
        return kind(f"{name} refused the credentials in Farthing's settings; the operator must mend providers.{name}")
    return kind(f"{name} (by LiteLLM): {_said(error)}", upstream_status=400 if issubclass(kind, UpstreamRejected) else None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and what led to it, outermost first."""
    found: BaseException | None = error
    for _ in range(_DEEPEST):
        if found is None:
            return
        yield found
        original = getattr(found, "original_exception", None)
        found = original if isinstance(original, BaseException) else found.__cause__ or found.__context__


def _is_litellms(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "litellm"


def _named(error: BaseException, table: Mapping[str, type[UpstreamError]]) -> type[UpstreamError] | None:
    return next((table[cls.__name__] for cls in type(error).__mro__ if cls.__name__ in table), None)


def _headers(response: Any) -> dict[str, str]:
    return {str(key).lower(): str(value) for key, value in dict(getattr(response, "headers", None) or {}).items()}


def _body(chain: list[BaseException], error: Exception) -> bytes:
    """The vendor's error document, if it was kept; else what LiteLLM says."""
    for one in chain:
        body = getattr(one, "body", None)
        if isinstance(body, dict) and body:
            return msgspec.json.encode(body if "error" in body else {"error": body})
    return msgspec.json.encode({"error": {"message": _said(error)}})


def _said(error: Exception) -> str:
    return (wire.text(getattr(error, "message", None)) or str(error) or type(error).__name__)[:2000]
