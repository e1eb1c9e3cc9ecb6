"""The modes as an operator is shown them: what holds for whom and why, and what each version changed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from farthing.errors import InvalidRequest
from farthing.modes import effective, state_of
from farthing.types import TOTAL, Document, Json, Mode, ModeEntry, ModeState, Principal

_NOBODY = UUID(int=0)


def state_in(document: Document | None) -> tuple[ModeState, str | None]:
    """What a document says, and what is wrong with it: what nobody understands says nothing."""
    if document is None:
        return ModeState(), None
    try:
        return state_of(document.body, document.at), None
    except InvalidRequest as error:
        return ModeState(), error.message


def somebody(scope: str) -> Principal:
    """A caller of whom no more is known than a scope that it is in."""
    kind, _, name = scope.partition(":")
    if kind == "key":
        return Principal(key_id=UUID(name) if _is_uuid(name) else _NOBODY, tenant="", tier="")
    return Principal(key_id=_NOBODY, tenant=name if kind == "tenant" else "", tier=name if kind == "tier" else "")


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def scopes_json(state: ModeState, ladder: Sequence[Mode], now: datetime, others: Mapping[str, Principal]) -> list[Json]:
    """A line for `total`, each scope that an entry or a pin is of, and each of `others`, of whose callers more is known."""
    names = [TOTAL, *sorted({*state.entries, *state.pins, *others} - {TOTAL})]
    return [_scope(name, others.get(name) or somebody(name), state, ladder, now) for name in names]


def _scope(name: str, principal: Principal, state: ModeState, ladder: Sequence[Mode], now: datetime) -> Json:
    mode = effective(state, principal, ladder, now)
    entry, pin = state.entries.get(name), state.pins.get(name)
    return {"scope": name, "mode": mode.name, "rank": mode.rank, "entry": _entry(entry), "pin": _entry(pin)}


def _entry(entry: ModeEntry | None) -> Json | None:
    if entry is None:
        return None
    return {"mode": entry.mode, "since": entry.since, "until": entry.until, "by": entry.by, "reason": entry.reason}


def version_json(document: Document, before: Document | None) -> Json:
    """A version in the history. `before` is the one that it followed; None: it was the first, or that is gone."""
    state, problem = state_in(document)
    changes = list(_changes(state_in(before)[0], state)) if problem is None else [problem]
    return {
        "version": document.version,
        "at": document.at,
        "by": document.by,
        "reason": document.reason,
        "changes": changes,
        "body": document.body,
    }


def _changes(before: ModeState, after: ModeState) -> Iterator[str]:
    for scope in sorted({*before.entries, *after.entries}):
        old, new = before.entries.get(scope), after.entries.get(scope)
        if (old and old.mode) != (new and new.mode):
            yield f"{scope}: {old.mode if old else 'the best mode'} → {new.mode if new else 'the best mode'}"
    for scope in sorted({*before.pins, *after.pins}):
        pin, was = after.pins.get(scope), before.pins.get(scope)
        if pin is None and was is not None:
            yield f"{scope}: no pin to {was.mode} any more"
        elif pin is not None and (was is None or (pin.mode, pin.until) != (was.mode, was.until)):
            yield f"{scope}: pinned to {pin.mode}" + (f" until {pin.until:%Y-%m-%dT%H:%M:%SZ}" if pin.until else "")
