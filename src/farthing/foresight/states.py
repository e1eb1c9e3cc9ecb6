"""Which states an event changes, and which states an answer hangs on. Pure: functions of the settings.

A state of the tenant is called by its name, `deployments`. Of one that each user or each project has its own, there are three kinds:
`inbox:ann`, Ann's; `inbox`, which changes with events that do not say whose (then everybody's has); and `inbox:*`, which changes with
every event, for answers that do not know whose they hang on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from farthing.settings import StateSettings
from farthing.templates import at
from farthing.types import Event

_PLAIN = re.compile(r"[A-Za-z0-9._@/+-]{1,64}")
_MOST_TOUCHED = 64

Touches = Callable[[Event], tuple[str, ...]]


def matches(patterns: Sequence[str], kind: str) -> bool:
    """Whether a type of events is one of these: `a.b` itself, `a.*` what begins with `a.`, `*` any."""
    return any(one in {"*", kind} or (one.endswith(".*") and kind.startswith(one[:-1])) for one in patterns)


def touching(states: Mapping[str, StateSettings]) -> Touches:
    """What says of an event which states it changes."""

    def touches(event: Event) -> tuple[str, ...]:
        found: list[str] = []
        for name, state in states.items():
            if matches(state.types, event.type):
                found += _changed(name, state, event)
        return tuple(found[:_MOST_TOUCHED])

    return touches


def _changed(name: str, state: StateSettings, event: Event) -> list[str]:
    if state.per == "tenant":
        return [name]
    value = _value(state.per, event.user, event.data)
    return [name, f"{name}:*"] if value is None else [f"{name}:{value}", f"{name}:*"]


def dependencies(names: Sequence[str], states: Mapping[str, StateSettings], *, user: str, data: Any) -> list[str]:
    """The states that an answer to a user hangs on. `data` is that of the event that it is made after, None where there is none."""
    found: list[str] = []
    for name in names:
        per = states[name].per
        value = None if per == "tenant" else _value(per, user, data)
        if per == "tenant":
            found.append(name)
        else:
            found += [f"{name}:*"] if value is None else [name, f"{name}:{value}"]
    return found


def _value(per: str, user: str | None, data: Any) -> str | None:
    """Whose, in letters that fit into a name; None where it is not said."""
    value = user if per == "user" else at(data, per)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        return None
    text = str(value)
    return text if _PLAIN.fullmatch(text) else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
