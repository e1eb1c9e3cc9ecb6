"""How much is done for a request while money is short. See `types`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from farthing.types.callers import Principal


class Mode(msgspec.Struct, frozen=True, kw_only=True):
    """A rung of the ladder. `rank` 0 is the best one, where nothing is held back; higher ranks are cheaper.

    `model` is the ceiling: a chat request that would go to a dearer model goes to this one. `retrieval_chunks`, `retrieval_tokens`: how
    much of documents may be read. `history_turns`: how many of the last user turns, with what follows each, are sent on. `max_tokens`: how
    long an answer may be. `cache_delta`: the error bound of the semantic cache, where it is wider than what is set. `cache_ttl_stretch`:
    how many times their lifetime cached answers may still be given. `cascade`, `judge`: whether routers may ask twice, or ask a model
    what to do. None: as without modes.
    """

    name: str
    rank: int = 0
    model: str | None = None
    retrieval_chunks: int | None = None
    retrieval_tokens: int | None = None
    history_turns: int | None = None
    max_tokens: int | None = None
    cache_delta: float | None = None
    cache_ttl_stretch: float = 1.0
    cascade: bool = True
    judge: bool = True


DEEP = Mode(name="DEEP")
"""What holds where the settings have no ladder."""

TOTAL = "total"
"""The scope of everybody."""


class ModeEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which mode a scope is in, since when, why, and who said so: `policy`, `operator:NAME`, or `external` (an alarm).

    `until` is when a pin ends; None: never.
    """

    mode: str
    since: datetime
    reason: str = ""
    by: str = "policy"
    until: datetime | None = None


class ModeState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all workers agree on: the mode of each scope that is not in the best one, and the pins.

    Scopes are `total`, `tier:NAME`, `tenant:NAME`, `key:UUID` (see `scopes_of`). A pin holds whatever the policy says.
    """

    entries: dict[str, ModeEntry] = {}
    pins: dict[str, ModeEntry] = {}


def scopes_of(principal: Principal) -> tuple[str, str, str, str]:
    """The scopes that a caller is in, the narrowest first."""
    return f"key:{principal.key_id}", f"tenant:{principal.tenant}", f"tier:{principal.tier}", TOTAL


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a document that all workers agree on. Versions of a name count up from 1."""

    name: str
    version: int
    body: dict[str, object]
    at: datetime
    by: str
    reason: str = ""


class SpendRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one key spent in one mode within one span of time. `at`: Unix seconds at its start. `requests` are final ones."""

    at: float
    tenant: str
    tier: str | None
    key_id: str | None
    mode: str | None
    microusd: int
    requests: int
