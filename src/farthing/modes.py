"""What workers agree on about modes, as a document, and what follows from it for a caller. Pure.

The document `modes` of `ports.ConfigStore` holds a `ModeState`. An alarm outside may write `{"RAG_MODE": "SHALLOW"}` instead, or beside
it, which means that mode for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import TOTAL, Json, Mode, ModeEntry, ModeState, Principal, scopes_of, utc_now

MODES = "modes"
"""The name of the document."""

FLAG = "RAG_MODE"
"""The one field of the short form. Beside others it counts instead of the entry of `total`."""

MOST_PINS = 100
MOST_ENTRIES = 200
"""More could make the document larger than stores take."""

_LONGEST_REASON = 240
_LONGEST_BY = 120
_LONGEST_NAME = 128
_SCOPE = re.compile(rf"total|(?:tier|tenant|key):[^\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]{{1,{_LONGEST_NAME}}}")
_MODE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def checked_scope(scope: str) -> str:
    """The scope as it was given. Raises `InvalidRequest` unless it is `total`, `tier:NAME`, `tenant:NAME` or `key:UUID`."""
    if not _SCOPE.fullmatch(scope):
        raise InvalidRequest(f"{scope[:64]!r} is no scope: write total, tier:NAME, tenant:NAME or key:ID", param="scope")
    return scope


def checked_mode(mode: str, ladder: Sequence[Mode]) -> Mode:
    """The rung of that name. Raises `InvalidRequest`, which lists those there are."""
    if (rung := _rung(mode, ladder)) is not None:
        return rung
    known = ", ".join(rung.name for rung in ladder)
    raise InvalidRequest(f"there is no mode {mode[:64]!r}; the ladder has: {known}", param="mode")


def pinned(
    state: ModeState, scope: str, mode: str | None, *, by: str, reason: str = "", now: datetime, until: datetime | None = None
) -> ModeState:
    """The state with a scope pinned to a mode, whatever the policy says; None takes the pin away. Pins that have ended go, too.

    Raises `InvalidRequest` for what is no scope, for an end that is past, and when there are too many pins.
    """
    checked_scope(scope)
    pins = {name: pin for name, pin in state.pins.items() if _holds(pin, now) and name != scope}
    if mode is not None:
        if until is not None and until <= now:
            raise InvalidRequest("the pin would have ended already", param="until")
        if len(pins) >= MOST_PINS:
            raise InvalidRequest(f"there are {len(pins)} pins already: take some away, or pin a tenant or a tier instead", param="scope")
        pins[scope] = _entry(mode, by=by, reason=reason, now=now, until=until)
    return ModeState(entries=state.entries, pins=pins)


def set_mode(state: ModeState, scope: str, mode: str, *, by: str, reason: str = "", now: datetime, best: str | None = None) -> ModeState:
    """The state with a scope in a mode, as the policy or an alarm outside says. `best`: that mode needs no entry.

    A scope that is in the mode already keeps its entry, and with it since when.
    """
    checked_scope(scope)
    entries = dict(state.entries)
    old = entries.get(scope)
    if mode == best:
        entries.pop(scope, None)
    elif old is None or old.mode != mode:
        if old is None and len(entries) >= MOST_ENTRIES:
            raise InvalidRequest(f"there are {len(entries)} scopes with a mode of their own already", param="scope")
        entries[scope] = _entry(mode, by=by, reason=reason, now=now)
    return ModeState(entries=entries, pins=state.pins)


def _entry(mode: str, *, by: str, reason: str, now: datetime, until: datetime | None = None) -> ModeEntry:
    if not _MODE.fullmatch(mode):
        raise InvalidRequest(f"{mode[:64]!r} is no name of a mode: 1 to 64 letters, digits and . _ -", param="mode")
    return ModeEntry(mode=mode, since=now, reason=_plain(reason, _LONGEST_REASON), by=_plain(by, _LONGEST_BY), until=until)


def _plain(text: str, most: int) -> str:
    """One line, of what every store can hold."""
    return "".join(character if character.isprintable() else " " for character in text[:most])


def effective(state: ModeState, principal: Principal, ladder: Sequence[Mode], now: datetime) -> Mode:
    """The mode of a caller: the narrowest pin that holds, else the worst entry of the scopes that the caller is in, else the best mode.

    What names a mode that the ladder does not have (the settings have changed since) does not count. The ladder has at least one rung.
    """
    scopes = scopes_of(principal)
    return pin_of(state, scopes, ladder, now) or worst_of(state, scopes, ladder, now)


def pin_of(state: ModeState, scopes: Sequence[str], ladder: Sequence[Mode], now: datetime) -> Mode | None:
    """What the first of the scopes that has a pin is pinned to; None: none has one that holds."""
    for scope in scopes:
        pin = state.pins.get(scope)
        if pin is not None and _holds(pin, now) and (rung := _rung(pin.mode, ladder)) is not None:
            return rung
    return None


def worst_of(state: ModeState, scopes: Sequence[str], ladder: Sequence[Mode], now: datetime) -> Mode:
    """The worst of the modes that the scopes are in, pins apart."""
    worst = ladder[0]
    for scope in scopes:
        entry = state.entries.get(scope)
        if entry is not None and _holds(entry, now) and (rung := _rung(entry.mode, ladder)) is not None and rung.rank > worst.rank:
            worst = rung
    return worst


def _rung(name: str, ladder: Sequence[Mode]) -> Mode | None:
    return next((rung for rung in ladder if rung.name == name), None)


def next_end(state: ModeState, now: datetime) -> datetime | None:
    """When the next pin or entry that holds now will end; None: none of them ends."""
    ends = [entry.until for held in (state.pins, state.entries) for entry in held.values() if entry.until is not None]
    return min((end for end in ends if end > now), default=None)


def _holds(entry: ModeEntry, now: datetime) -> bool:
    return entry.until is None or now < entry.until


def body_of(state: ModeState) -> Json:
    """The document's body."""
    body: Json = msgspec.to_builtins(state)
    return body


def body_after(before: Mapping[str, object], state: ModeState, best: str) -> Json:
    """The body for a state where another one was. With the field of the short form where that had it, and what others keep beside it."""
    if FLAG not in before:
        return body_of(state)
    total = state.entries.get(TOTAL)
    rest = ModeState(entries={scope: entry for scope, entry in state.entries.items() if scope != TOTAL}, pins=state.pins)
    kept = {name: value for name, value in before.items() if name not in ModeState.__struct_fields__}
    return {**kept, FLAG: total.mode if total else best, **body_of(rest)}


def state_of(body: Mapping[str, object], at: datetime | None = None) -> ModeState:
    """The state that a document says. `at` is when it was written, which the short form does not say. Raises `InvalidRequest`."""
    try:
        state = msgspec.convert({name: value for name, value in body.items() if name != FLAG}, ModeState)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"that is no state of modes: {error}") from error
    if len(state.entries) > MOST_ENTRIES or len(state.pins) > MOST_PINS:
        raise InvalidRequest(f"that is no state of modes: at most {MOST_ENTRIES} entries and {MOST_PINS} pins")
    entries = _read(state.entries)
    if FLAG in body:
        flag = body[FLAG]
        if not isinstance(flag, str):
            raise InvalidRequest(f"{FLAG} must be the name of a mode")
        entries[TOTAL] = _entry(flag, by="external", reason=f"{FLAG} says so", now=at or utc_now())
    return ModeState(entries=entries, pins=_read(state.pins))


def _read(entries: Mapping[str, ModeEntry]) -> dict[str, ModeEntry]:
    """Entries as they came, but plain, and with times that can be compared. A scope that is none is told."""
    return {
        checked_scope(scope): msgspec.structs.replace(
            _entry(entry.mode, by=entry.by, reason=entry.reason, now=_utc(entry.since)), until=entry.until and _utc(entry.until)
        )
        for scope, entry in entries.items()
    }


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
