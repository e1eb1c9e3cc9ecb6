"""Every error that a caller of Farthing can meet.

    FarthingError
    ├── InvalidRequest            400  invalid_request_error
    │   ├── KeyInUrl              400  key_in_url
    │   ├── PreviousResponseNotFound 400  previous_response_not_found
    │   ├── PriceUnknown          400  price_unknown        a hard budget holds, and the model has no price
    │   ├── BodyTimeout           408  body_timeout
    │   └── BodyTooLarge          413  body_too_large
    ├── Unauthenticated           401  invalid_api_key
    ├── NotAllowed                403  not_allowed
    ├── NotFound                  404  not_found
    │   └── ModelNotFound         404  model_not_found
    ├── MethodNotAllowed          405  method_not_allowed
    ├── Conflict                  409  conflict             somebody else has changed it in between
    ├── BudgetExceeded            429  insufficient_quota   a hard budget is spent; no retry helps before its window ends
    ├── BudgetUnverified          503  budget_unverified    a hard budget cannot be checked: the database is away
    ├── RateLimited               429  rate_limit_exceeded  a limit of the caller's key at Farthing, not a provider's
    ├── ClientGone                499  client_disconnected  seen in the ledger only
    ├── Overloaded                503  overloaded
    ├── Unavailable               503  unavailable          a dependency of ours is away (database, local model)
    ├── UpstreamError             what a provider did
    │   ├── UpstreamRejected      its own 4xx status, type and code: the request, not the provider, is at fault
    │   │   └── UpstreamContextExceeded 400  context_length_exceeded  it is too long for the model
    │   ├── UpstreamRateLimited   429  rate_limit_exceeded
    │   ├── UpstreamRefusedUs     502  upstream_credentials (its 401/403: our key, not the caller's)
    │   ├── UpstreamUnavailable   502  upstream_unavailable (cannot connect, connection lost, 5xx)
    │   ├── UpstreamMalformed     502  upstream_malformed   (HTML, bad JSON, bad UTF-8, schema ignored)
    │   └── UpstreamTimeout       504  upstream_timeout
    └── SettingsError             the settings file or environment is wrong (start-up and command line only)

The wire shape is OpenAI's: `{"error": {"message", "type", "param", "code"}}`. `retry` becomes `x-should-retry`, which the official
SDKs obey before they look at the status; None leaves the decision to the SDK.
"""

from __future__ import annotations

from typing import ClassVar, Literal


class FarthingError(Exception):
    """Base of the tree. `message` is written for the person who will read it: what was wrong and what to do.

    `retry_after_s` (seconds) is sent as `retry-after` and `retry-after-ms`. `param` names the offending request field.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    retry: bool | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    def wire(self) -> tuple[int, dict[str, object]]:
        """HTTP status and OpenAI error object."""
        return self.status, {"message": self.message, "type": self.type, "param": self.param, "code": self.code}


class InvalidRequest(FarthingError):
    """The request cannot be understood; sending it again unchanged cannot help."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_request"
    retry = False


class KeyInUrl(InvalidRequest):
    """An API key was put in the query string, where proxies and logs would keep it."""

    code = "key_in_url"


class PreviousResponseNotFound(InvalidRequest):
    """`previous_response_id` names no response of this tenant. Status and code are OpenAI's, which clients look for."""

    code = "previous_response_not_found"


class BodyTimeout(InvalidRequest):
    """The body did not arrive within `server.body_timeout_s`."""

    status = 408
    code = "body_timeout"
    retry = True


class BodyTooLarge(InvalidRequest):
    """The body is larger than `server.max_body_bytes`."""

    status = 413
    code = "body_too_large"


class Unauthenticated(FarthingError):
    """No key, an unknown key, or one that was revoked or has expired."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    retry = False


class NotAllowed(FarthingError):
    """The key is good but does not open this door or this model."""

    status = 403
    type = "permission_error"
    code = "not_allowed"
    retry = False


class NotFound(FarthingError):
    """No such door or object."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"
    retry = False


class ModelNotFound(NotFound):
    """The catalogue has no model of that name. The message lists the names that exist."""

    code = "model_not_found"


class MethodNotAllowed(FarthingError):
    """The door exists but not for this HTTP method. `allowed` names those it takes, for the header `allow` (RFC 9110, 15.5.6)."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"
    retry = False

    def __init__(self, message: str, *, allowed: str = "") -> None:
        super().__init__(message)
        self.allowed = allowed


class Conflict(FarthingError):
    """What was to be changed has been changed by somebody else in between. Read it again, then decide."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"
    retry = False


class BudgetExceeded(FarthingError):
    """A hard budget has no room for the request. The shape is OpenAI's for an account without credit.

    `passing`: what is left is reserved by calls under way; it may be free again in a moment, so a retry helps.
    """

    status = 429
    type = "insufficient_quota"
    code = "insufficient_quota"
    retry = False

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message, retry_after_s=1.0 if passing else None)
        if passing:
            self.retry = True


class BudgetUnverified(FarthingError):
    """A hard budget cannot be checked, because the database is away and this worker's grants are used up."""

    status = 503
    type = "server_error"
    code = "budget_unverified"
    retry = True


class PriceUnknown(InvalidRequest):
    """A hard budget holds for the caller, and nobody knows what the model costs."""

    code = "price_unknown"


class RateLimited(FarthingError):
    """The caller's key is over a limit of ours: `limit` says which, and is sent as `x-farthing-limit`, which tells it from a provider's."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    retry = True

    def __init__(
        self, message: str, *, limit: Literal["requests", "tokens", "concurrency"] = "requests", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limit = limit


class ClientGone(FarthingError):
    """The client went away before there was an answer. Seen in the ledger only; the status is nginx's."""

    status = 499
    type = "client_error"
    code = "client_disconnected"


class Overloaded(FarthingError):
    """A bounded queue is full. Retrying after a pause helps."""

    status = 503
    type = "server_error"
    code = "overloaded"
    retry = True


class Unavailable(FarthingError):
    """Something of ours that this request cannot do without is away. Retrying after a pause helps."""

    status = 503
    type = "server_error"
    code = "unavailable"
    retry = True


class UpstreamError(FarthingError):
    """A provider failed. `upstream_status`, `upstream_type` and `upstream_code` are what it said itself."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"
    retry = True

    def __init__(
        self,
        message: str,
        *,
        upstream_status: int | None = None,
        upstream_type: str | None = None,
        upstream_code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after_s=retry_after_s)
        self.upstream_status = upstream_status
        self.upstream_type = upstream_type
        self.upstream_code = upstream_code

    def wire(self) -> tuple[int, dict[str, object]]:
        """Our status, and the provider's own type and code where it gave them."""
        status, error = super().wire()
        return status, {**error, "type": self.upstream_type or error["type"], "code": self.upstream_code or error["code"]}


class UpstreamRejected(UpstreamError):
    """The provider says that the request is at fault: no other deployment would do better. Its status is handed on as it came."""

    type = "invalid_request_error"
    code = "invalid_request"
    retry = False

    def wire(self) -> tuple[int, dict[str, object]]:
        """The provider's own status and error object."""
        status, error = super().wire()
        return self.upstream_status or status, error


class UpstreamContextExceeded(UpstreamRejected):
    """The request, with the answer that it allows, is longer than the model's context. Another model may have room for it.

    The code is OpenAI's, whatever the provider called it: clients look for it.
    """

    status = 400
    code = "context_length_exceeded"

    def wire(self) -> tuple[int, dict[str, object]]:
        """The provider's own status and words, with OpenAI's code."""
        status, error = super().wire()
        return status, {**error, "code": self.code}


class UpstreamRateLimited(UpstreamError):
    """The provider's 429. `retry_after_s` is the provider's own wish where it gave one."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class UpstreamRefusedUs(UpstreamError):
    """The provider refused the credentials in our settings. The caller's key is fine."""

    code = "upstream_credentials"
    retry = False


class UpstreamUnavailable(UpstreamError):
    """The provider could not be reached, broke the connection or answered 5xx."""

    code = "upstream_unavailable"


class UpstreamMalformed(UpstreamError):
    """The provider answered something that is not an answer, or that breaks the schema asked for."""

    code = "upstream_malformed"


class UpstreamTimeout(UpstreamError):
    """The provider exceeded one of the time-outs: connect, first token, idle or total."""

    status = 504
    code = "upstream_timeout"


class SettingsError(FarthingError):
    """The settings are wrong. The message names the key, the file or variable, and the nearest valid name."""

    type = "settings_error"
    code = "settings_error"
