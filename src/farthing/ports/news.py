"""News from other workers. See `ports`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

CHANNELS = (
    "keys",
    "answers",
    "budgets",
    "retention",
    "questions",
    "verdicts",
    "config",
    "spend",
    "routers",
    "events",
    "facts",
    "states",
    "jobs",
)


class Changes(Protocol):
    """News from other workers on the same database."""

    def watch(self) -> AsyncIterator[tuple[str, str]]:
        """Yield (channel, payload) as it happens.

        `answers` (payload: keys in hex, comma-separated); `keys`, `budgets`, `retention` (payload: nothing; reload); `questions` (payload:
        ids in hex, comma-separated, or a `QuestionsGone` as a JSON object; what was pruned is not told); `verdicts` (payload: a JSON array
        of `Verdict`); `config` (payload: the name of a document that has a new version); `spend` (payload: a JSON object, the worker and
        what it spent: `SpendLog.tell`); `routers` (payload: the name of a router for which another version decides); `events` (payload:
        names of handlers that have something to do, comma-separated); `facts` (payload: a JSON object, the tenant and the user whose facts
        are others now); `states` (payload: a JSON object, the tenant and the new versions by state); `jobs` (payload: a kind of job that
        there is one of). Nothing, on any of them: reload.
        Ends or raises when the connection is lost; the caller waits, watches again, and reloads what it may have missed.
        """
