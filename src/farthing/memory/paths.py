"""Reading events: values by their path, and texts with paths in braces. Pure.

A path only ever reads what JSON holds: names of objects and numbers of list items. Nothing of Python's objects can be reached.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from farthing.settings.memory_rules import Scalar
from farthing.types import Event

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_LARGEST: Final = 2**63
_LONGEST_PART: Final = 500
"""Of a value that is put into a text; a longer one cannot be part of a fact anyway."""


def value_at(event: Event, path: str) -> Any:
    """What stands at a path; None when nothing does, or null."""
    head, *names = path.split(".")
    found: Any = {"type": event.type, "source": event.source, "subject": event.subject, "data": event.data}[head]
    for name in names:
        if isinstance(found, dict):
            found = found.get(name)
        elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def scalar_at(event: Event, path: str) -> Scalar | None:
    """The text, number or boolean at a path; None for anything else, and for integers that no fact could hold."""
    found = value_at(event, path)
    if isinstance(found, str):
        return found.encode("utf-8", "replace").decode()
    if isinstance(found, int) and abs(found) > _LARGEST:
        return None
    return found if isinstance(found, bool | int | float) else None


def filled(template: Scalar, event: Event) -> Scalar | None:
    """A template with the values of an event in it; None where one of them is missing. A path alone keeps its type."""
    if not isinstance(template, str):
        return template
    alone = _PLACE.fullmatch(template)
    if alone:
        return scalar_at(event, alone[1])
    parts: list[str] = []
    end = 0
    for place in _PLACE.finditer(template):
        value = scalar_at(event, place[1])
        if value is None:
            return None
        parts += [template[end : place.start()], value[:_LONGEST_PART] if isinstance(value, str) else msgspec.json.encode(value).decode()]
        end = place.end()
    return "".join([*parts, template[end:]])
