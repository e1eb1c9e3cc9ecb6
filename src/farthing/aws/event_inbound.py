"""Events of the account's own systems, as EventBridge has them, as events of Farthing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from farthing.aws.event_mirror import SOURCE, matches
from farthing.errors import InvalidRequest
from farthing.settings.events_aws import InboundSettings
from farthing.types import Event

_MOST_NAME: Final = 512
_STANDARD: Final = frozenset(
    {"specversion", "id", "source", "type", "subject", "time", "data", "datacontenttype", "dataschema", "user", "tenant"}
)


class _Envelope(msgspec.Struct, rename="kebab"):
    """What EventBridge puts around each event."""

    id: str
    source: str
    detail_type: str
    detail: Any = None
    account: str = ""
    time: str = ""


def inbound_event(body: str, routes: Sequence[InboundSettings], now: datetime) -> Event | None:
    """The event that a message of the inbox holds; None when no route wants it. Raises `InvalidRequest` when it is none.

    A `detail` that is a CloudEvent 1.0 itself keeps its names, else they are EventBridge's. The tenant is the route's, whatever it says.
    """
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequest(f"the message is no event of EventBridge: {error}") from None
    route = next((each for each in routes if _fits(each, envelope)), None)
    if route is None or envelope.source == SOURCE:
        return None
    detail = envelope.detail
    if isinstance(detail, dict) and detail.get("specversion") == "1.0":
        return _cloud_event(detail, route, now)
    return _event(envelope, route, now)


def _fits(route: InboundSettings, envelope: _Envelope) -> bool:
    return matches(route.source, envelope.source) and matches(route.detail_type, envelope.detail_type)


def _event(envelope: _Envelope, route: InboundSettings, now: datetime) -> Event:
    return Event(
        id=_name("id", envelope.id),
        source=_name("source", f"eventbridge/{envelope.account}/{envelope.source}"),
        type=route.type or f"{envelope.source}.{_slug(envelope.detail_type)}"[:200],
        tenant=route.tenant,
        subject=_found(envelope.detail, route.subject),
        user=_found(envelope.detail, route.user),
        time=_time(envelope.time, now),
        data=envelope.detail,
        received_at=now,
    )


def _cloud_event(detail: dict[str, Any], route: InboundSettings, now: datetime) -> Event:
    extensions = {name: value for name, value in detail.items() if name not in _STANDARD and isinstance(value, str | int | bool)}
    own = {name: str(detail[name]) for name in ("subject", "user") if isinstance(detail.get(name), str) and detail[name]}
    return Event(
        id=_name("id", detail.get("id")),
        source=_name("source", detail.get("source")),
        type=route.type or _name("type", detail.get("type")),
        tenant=route.tenant,
        subject=own.get("subject") if route.subject is None else _found(detail, route.subject),
        user=own.get("user") if route.user is None else _found(detail, route.user),
        time=_time(detail.get("time"), now),
        data=detail.get("data"),
        extensions=extensions,
        received_at=now,
    )


def _name(what: str, value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MOST_NAME:
        raise InvalidRequest(f"the event's {what} is no text of 1 to {_MOST_NAME} characters")
    return value


def _found(detail: Any, path: str | None) -> str | None:
    """What stands at a path such as `detail.order.id`; None when that is no text and no number."""
    if path is None:
        return None
    for step in path.split(".")[1:]:
        detail = detail.get(step) if isinstance(detail, dict) else None
    if isinstance(detail, bool) or not isinstance(detail, str | int):
        return None
    return str(detail)[:_MOST_NAME] or None


def _time(value: Any, now: datetime) -> datetime:
    """When it happened; now, when it does not say so, or says that it will."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else now
    except ValueError:
        return now
    return min(at if at.tzinfo else at.replace(tzinfo=UTC), now)


def _slug(detail_type: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", detail_type.lower()).strip("-") or "event"
