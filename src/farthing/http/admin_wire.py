"""What the admin doors share: bodies in, answers and errors out."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from farthing.errors import FarthingError, InvalidRequest
from farthing.http.asgi import ClientLeft, error_body, error_headers, read_body
from farthing.settings import ServerSettings

_log = logging.getLogger("farthing.http")
_encode = msgspec.json.Encoder().encode
_MOST_BODY = 64 * 1024
MOST_LISTED = 10_000
KEY_ID = "farthing.key_id"
"""In an ASGI scope: the id of the admin key that opened the door."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,127}")
"""Of a tenant, a tier, a key's user."""
_SWITCHES = {"true": True, "1": True, "false": False, "0": False}
_SPAN = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

Wanted = TypeVar("Wanted")


async def body_of(request: Request, kind: type[Wanted], settings: ServerSettings, *, most: int = _MOST_BODY) -> Wanted:
    """The request's JSON body, of at most so many bytes. Raises `InvalidRequest` that names what is wrong."""
    data = await read_body(request.scope, request.receive, most=most, timeout_s=settings.body_timeout_s)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


def known_parameters(query: Mapping[str, str], *known: str) -> None:
    """Raises `InvalidRequest` for a query parameter that no door reads."""
    unknown = set(query) - set(known)
    if unknown:
        raise InvalidRequest(f"there is no parameter {min(unknown)[:64]!r}; known: {', '.join(known) or 'none'}")


def checked_name(text: str, field: str) -> str:
    """A name, as it came. Raises `InvalidRequest`, by the name of the field that it stands in."""
    if not NAME.fullmatch(text):
        raise InvalidRequest(f"{field}: 1 to 128 letters, digits and . _ @ : + -, beginning with a letter or digit", param=field)
    return text


def switch_of(query: Mapping[str, str], name: str) -> bool:
    """A query parameter that is true or false; false where it is not there. Raises `InvalidRequest`."""
    value = _SWITCHES.get(query.get(name, "false").lower())
    if value is None:
        raise InvalidRequest(f"{name} must be true or false", param=name)
    return value


def limit_of(query: Mapping[str, str], *, usual: int, most: int) -> int:
    """How many are asked for. Raises `InvalidRequest`."""
    text = query.get("limit", str(usual))
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise InvalidRequest(f"limit must be a number from 1 to {most}", param="limit")
    return int(text)


def span(text: str) -> int | None:
    """A length of time such as `90s`, `24h` or `7d` in seconds; None when it is none."""
    found = _SPAN.fullmatch(text)
    return int(found[1]) * _UNITS[found[2]] if found else None


def window(query: Mapping[str, str], now: datetime) -> tuple[datetime, datetime]:
    """`since` (24 hours ago unless given) and `until` (now). Raises `InvalidRequest`."""
    since = _instant(query.get("since", "24h"), now, "since")
    until = _instant(query["until"], now, "until") if "until" in query else now + timedelta(seconds=1)
    if since >= until:
        raise InvalidRequest("since must be before until", param="since")
    return since, until


def _instant(text: str, now: datetime, param: str) -> datetime:
    """An age (`24h`, `7d`) or an ISO 8601 instant; without a time zone it is UTC."""
    age = span(text)
    try:
        if age is not None:
            return now - timedelta(seconds=age)
        instant = datetime.fromisoformat(text)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{param} must be an age such as 24h or 7d, or a time such as 2026-11-23T10:00:00Z", param=param) from None


def json_response(body: object, status: int = 200) -> Response:
    """An answer."""
    return Response(_encode(body), status, media_type="application/json")


def guarded(endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Errors of ours as OpenAI's error object."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except FarthingError as error:
            status, body = error_body(error)
            headers = {name.decode(): value.decode() for name, value in error_headers(error)}
            return Response(body, status, headers=headers, media_type="application/json")
        except ClientLeft:
            return Response(status_code=400)
        except Exception:  # noqa: BLE001 - an error object for the caller, the cause in the log
            _log.exception("an admin request failed inside Farthing")
            status, body = error_body(FarthingError("internal error; see Farthing's log"))
            return Response(body, status, media_type="application/json")

    return guarded
