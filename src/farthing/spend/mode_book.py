"""Which mode holds for whom, as far as this worker knows: what all workers agree on, or what it decided alone while they cannot.

A decision of its own holds here at once, and is then offered to the store. When another worker was faster, what that one wrote holds.
While the store is away, the own decision stays; when the store is back, the worse of both holds in each scope, and is written: the safe
side is the cheaper one, and the policy finds its way up from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from farthing.errors import Conflict, FarthingError, InvalidRequest
from farthing.modes import MODES, body_after, effective, next_end, pin_of, state_of, worst_of
from farthing.ports import ConfigStore
from farthing.snapshot import Snapshot
from farthing.types import TOTAL, Document, Mode, ModeEntry, ModeState, Principal

_log = logging.getLogger("farthing.modes")
_MOST_CALLERS = 10_000
_READ_S, _WRITE_S = 3.0, 15.0
"""How long the store is waited for."""
_PAUSE_S = 1.0
"""Between attempts, while the store is away."""
_PATIENCE_AT_START = 10
"""Attempts, before it is told that the store does not come up."""


class ModeBook:
    """`mode_of` is for the request path; `run` keeps the book. `away`: the store is. `written` counts the changes that this worker made.

    The snapshot on disk is for a start without the store. `clock` is Unix time.
    """

    def __init__(
        self, store: ConfigStore, ladder: Sequence[Mode], snapshot: Snapshot[Document], clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._ladder = ladder
        self._snapshot = snapshot
        self._clock = clock
        self._document: Document | None = None
        self._agreed = ModeState()
        self._own: ModeState | None = None
        self._modes: dict[tuple[UUID, str, str], Mode] = {}
        self._everybodys: Mode | None = ladder[0]
        self._until = float("inf")
        self._asked = asyncio.Event()
        self._unsaved = False
        self._failures = 0
        self._reached = self._told = False
        self.away = False
        self.known = False
        self.written = 0

    @property
    def state(self) -> ModeState:
        """What holds here."""
        return self._agreed if self._own is None else self._own

    @property
    def document(self) -> Document | None:
        """The latest that was read or written; None: none."""
        return self._document

    def mode_of(self, who: Principal) -> Mode:
        """The mode of a caller."""
        if self._everybodys is not None:
            return self._everybodys
        if self._clock() >= self._until:
            self._forget()
        caller = (who.key_id, who.tenant, who.tier)
        mode = self._modes.get(caller)
        if mode is None:
            if len(self._modes) >= _MOST_CALLERS:
                self._modes.clear()
            mode = self._modes[caller] = effective(self.state, who, self._ladder, self._now())
        return mode

    def rank_of(self, scope: str) -> int:
        """The rank of the mode of those in a scope of whom nothing else is known: 0 is the best."""
        scopes, now = (scope, TOTAL), self._now()
        return (pin_of(self.state, scopes, self._ladder, now) or worst_of(self.state, scopes, self._ladder, now)).rank

    def _forget(self) -> None:
        self._modes.clear()
        state = self.state
        self._everybodys = None if state.entries or state.pins else self._ladder[0]
        end = next_end(state, self._now())
        self._until = float("inf") if end is None else end.timestamp()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def want(self, state: ModeState) -> None:
        """Decide: this holds from now on, and others are to agree."""
        self._own = state
        self._forget()
        self._asked.set()

    def ask(self) -> None:
        """There may be news in the store."""
        self._asked.set()

    def heard(self, document: Document) -> None:
        """An operator has had a version written by this worker."""
        if self._document is None or document.version > self._document.version:
            self._adopt(document)

    def _adopt(self, document: Document | None) -> None:
        """From now on this is agreed on. What nobody understands changes nothing."""
        try:
            agreed = ModeState() if document is None else state_of(document.body, document.at)
        except InvalidRequest as error:
            if document != self._document:
                _log.error("the document %r of version %d is ignored: %s", MODES, document.version if document else 0, error)
                self._document = document
            return
        if agreed != self._agreed and document is not None and document.by != "policy":
            _log.info("modes: %s (by %s) %s", changes(self.state, agreed, self._ladder), document.by, document.reason)
        self._unsaved = self._unsaved or document != self._document
        self._document, self._agreed, self.known = document, agreed, True
        self._own = None
        self._forget()

    async def open(self) -> None:
        """Begin with the snapshot, if there is one."""
        saved = await asyncio.to_thread(self._snapshot.read)
        if saved and saved.records and not self.known:
            self._adopt(saved.records[0])
            self.known = self._unsaved = False

    async def run(self) -> None:
        """Agree with others until cancelled."""
        while True:
            self._asked.clear()
            pause = await self.agree()
            if pause is None:
                await self._wait(self._store.poll_s)
            else:
                await asyncio.sleep(pause)
            if self._unsaved and self._document is not None:
                self._unsaved = not await asyncio.to_thread(self._snapshot.write, [self._document])

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            return

    async def agree(self) -> float | None:
        """Write what was decided here, or read what is agreed on. Returns when to try again (seconds) if that could not be done."""
        try:
            await self._agree()
        except InvalidRequest as error:
            _log.error("modes cannot be stored: %s", error)
            return _PAUSE_S
        except (FarthingError, TimeoutError) as error:
            if isinstance(error, Conflict):
                return 0.0
            self._note(away=True, why=str(error) or "it takes too long")
            return _PAUSE_S
        self._note(away=False, why="")
        return None if self._own is None else 0.0

    async def _agree(self) -> None:
        if self._own is None:
            document = await self._read()
            if self._own is None or document != self._document:  # what was decided meanwhile, on another footing, is decided again
                self._adopt(document)
            return
        if self.away or not self.known:
            await self._after_outage(self._own)
        if (own := self._own) is not None:
            await self._write(own)

    async def _read(self) -> Document | None:
        async with asyncio.timeout(_READ_S):
            return await self._store.read(MODES)

    async def _write(self, own: ModeState) -> None:
        before = self._document
        reason = changes(self._agreed, own, self._ladder)
        body = body_after(before.body if before else {}, own, self._ladder[0].name)
        try:
            async with asyncio.timeout(_WRITE_S):
                written = await self._store.write(MODES, body, expect=before.version if before else 0, by="policy", reason=reason)
        except Conflict:
            self._adopt(await self._read())
            raise
        self.written += 1
        later = self._own
        _log.warning("modes: %s: %s", reason, _why(own))
        self._adopt(written)
        if later is not None and later.entries != own.entries:
            self.want(later)  # decided while the store was busy

    async def _after_outage(self, own: ModeState) -> None:
        """Go on with the worse of what was decided here and what is in the store by now, in each scope."""
        document = await self._read()
        own = self._own or own
        self._adopt(document)
        entries = worse(self._agreed.entries, own.entries, self._ladder)
        if entries != self._agreed.entries:
            self.want(ModeState(entries=entries, pins=self._agreed.pins))

    def _note(self, *, away: bool, why: str) -> None:
        self._failures = self._failures + 1 if away else 0
        told = self._failures == (1 if self._reached else _PATIENCE_AT_START)
        if away and told:
            _log.warning("the store of modes is away, this worker decides alone: %s", why)
        elif not away and self._told:
            _log.warning("the store of modes is back")
        self._told = away and (told or self._told)
        self._reached = self._reached or not away
        self.away = away


def worse(some: dict[str, ModeEntry], more: dict[str, ModeEntry], ladder: Sequence[Mode]) -> dict[str, ModeEntry]:
    """The entries of both, of each scope the one that holds back more."""
    ranks = {rung.name: rung.rank for rung in ladder}
    merged = dict(some)
    for scope, entry in more.items():
        if scope not in merged or ranks.get(entry.mode, -1) > ranks.get(merged[scope].mode, -1):
            merged[scope] = entry
    return merged


def changes(before: ModeState, after: ModeState, ladder: Sequence[Mode]) -> str:
    """What is different, in words: `total DEEP → SHALLOW`."""
    best = ladder[0].name
    told = []
    for scope in sorted({*before.entries, *after.entries}, key=lambda scope: (scope != TOTAL, scope)):
        old, new = before.entries.get(scope), after.entries.get(scope)
        names = (old.mode if old else best), (new.mode if new else best)
        if names[0] != names[1]:
            told.append(f"{scope} {names[0]} → {names[1]}")
    if before.pins != after.pins:
        told.append("pins")
    return ", ".join(told[:_MOST_TOLD]) + (" and more" if len(told) > _MOST_TOLD else "")


_MOST_TOLD = 8


def _why(state: ModeState) -> str:
    latest = max(state.entries.values(), key=lambda entry: entry.since, default=None)
    return latest.reason if latest else "there is room again"
