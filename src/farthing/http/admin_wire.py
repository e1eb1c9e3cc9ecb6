"""What the admin doors share: bodies in, answers and errors out."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
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

Wanted = TypeVar("Wanted")


async def body_of(request: Request, kind: type[Wanted], settings: ServerSettings) -> Wanted:
    """The request's JSON body. Raises `InvalidRequest` that names what is wrong."""
    data = await read_body(request.scope, request.receive, most=_MOST_BODY, timeout_s=settings.body_timeout_s)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None


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
