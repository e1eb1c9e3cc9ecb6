"""The JSON of an event, as buses keep it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import Event


def encoded(event: Event, value: Any) -> str:
    """A part of an event as JSON, such as its data. Raises `InvalidRequest` when it is none."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"the data of event {event.id[:128]!r} are no JSON: {error}", param="data") from error


def touched(events: Sequence[Event]) -> dict[str, list[str]]:
    """The states that events touch, each once, by tenant."""
    found: dict[str, dict[str, None]] = {}
    for event in events:
        if event.touches:
            found.setdefault(event.tenant, {}).update(dict.fromkeys(event.touches))
    return {tenant: list(states) for tenant, states in found.items()}
