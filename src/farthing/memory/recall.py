"""The recall stage: what is known of the user, and what was said before, goes into the prompt; what is said now is kept and told.

Everything that it waits for has a deadline. What is away costs memory, never an answer: the request goes on with what its client sent,
and its answer says so (`away=…`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from farthing.errors import FarthingError, InvalidRequest
from farthing.memory.block import Line, block, choose, fit, like_the_question, lines_of, quoted, text_of_fact
from farthing.memory.conversations import Conversations, Spoken, line_of
from farthing.memory.injection import kept_history, put, recent
from farthing.memory.keeping import Keeper, Under
from farthing.memory.vectors import Vectors
from farthing.memory.wanted import Wanted, keeps_its_own_history, wanted_of
from farthing.memory.windows import Said, all_of, best, render
from farthing.pipeline.message import text_of
from farthing.pipeline.stage import Next
from farthing.ports import FactStore
from farthing.settings.memory_recall import RecallSettings
from farthing.types import Answer, Fact, Request

_Found = TypeVar("_Found")
_MOST_NAMED: Final = 16
"""Facts named in the trace; the ledger holds 256 characters of it."""
_FEW: Final = 100
"""So many turns may be looked at without a thread."""
_LONGEST_QUESTION: Final = 4000
"""Characters of a turn, its end, that are read to choose by. An embedder reads about a thousand."""
_SHORT: Final = -8
"""A fact is named by the last characters of its id, which are random."""


class Recall:
    """See `pipeline.stage.Stage`. `facts` is None where there is no store of facts. `came` counts requests by what came of it."""

    def __init__(
        self, settings: RecallSettings, facts: FactStore | None, conversations: Conversations, vectors: Vectors, keeper: Keeper
    ) -> None:
        self._settings = settings
        self._facts = facts
        self._conversations = conversations
        self._vectors = vectors
        self._keeper = keeper
        self.came = {"found": 0, "empty": 0, "away": 0}

    def __call__(self, request: Request, following: Next) -> Awaitable[Answer]:
        """Not a coroutine of its own: most requests want nothing of it."""
        wanted = wanted_of(request, self._settings)
        return following(request) if wanted is None else self._with_memory(request, following, wanted)

    async def _with_memory(self, request: Request, following: Next, wanted: Wanted) -> Answer:
        if wanted.conversation is not None and len(wanted.question.encode(errors="replace")) > self._settings.max_turn_bytes:
            most = self._settings.max_turn_bytes
            raise InvalidRequest(
                f"this turn has more than {most} bytes (setting memory.max_turn_bytes): send it without farthing.conversation_id",
                param="messages",
            )
        under = await self._recall(request, wanted)
        return await self._keeper.watch(request, wanted, under, await following(request))

    async def _recall(self, request: Request, wanted: Wanted) -> Under:
        """Put in what there is. Returns where in its conversation the request is."""
        looked = _Looked()
        ours = wanted.conversation is not None and not keeps_its_own_history(request.body)
        facts, earlier, talk = await asyncio.gather(
            self._facts_of(wanted, looked), self._turns_of(wanted, looked), self._conversation(wanted, looked)
        )
        under = self._place(request, wanted, looked, earlier, talk)
        history = under.before(talk) if ours else []
        latest = recent(history, turns=self._settings.recent_turns, max_tokens=self._settings.max_recent_tokens)
        shown = {one.turn.id for one in latest}
        older = [one for one in _together(history, earlier) if one.turn.id not in shown and one.turn.id != under.retried]
        if not ours:
            older = _unsaid(older, request)
        lines, windows = await self._chosen(lines_of(facts), older, wanted)
        if self._settings.replace_history and wanted.mode != "off":
            kept_history(request, turns=self._settings.recent_turns, max_tokens=self._settings.max_recent_tokens)
        remembered = block([line.text for line in lines], windows)
        put(request, remembered, latest)
        self._note(request, wanted, _trace([line.fact for line in lines], windows, latest, looked))
        self.came["away" if looked.away else "empty" if remembered is None and not latest else "found"] += 1
        return under

    def _place(self, request: Request, wanted: Wanted, looked: _Looked, earlier: list[Spoken], talk: list[Spoken]) -> Under:
        """Where the request is. It stands for itself where that cannot be known: it is no retry of anything then."""
        if wanted.conversation is not None:
            return Under(after=request.id) if "conversation" in looked.away else Under.of(wanted, talk)
        known = wanted.windows and self._settings.max_window_tokens and "windows" not in looked.away
        return Under.of(wanted, [one for one in earlier if not one.turn.conversation]) if known else Under(after=request.id)

    async def _facts_of(self, wanted: Wanted, looked: _Looked) -> Sequence[Fact]:
        if wanted.mode == "off" or wanted.user is None or self._facts is None:
            return []
        profile = await looked.at("facts", self._facts.profile(wanted.tenant, wanted.user), self._settings.read_timeout_s)
        return profile.facts if profile is not None else []

    async def _turns_of(self, wanted: Wanted, looked: _Looked) -> list[Spoken]:
        if not wanted.windows or wanted.user is None or not self._settings.max_window_tokens:
            return []
        turns = self._conversations.of_user(wanted.tenant, wanted.user, limit=self._settings.max_turns_read)
        return await looked.at("windows", turns, self._settings.read_timeout_s) or []

    async def _conversation(self, wanted: Wanted, looked: _Looked) -> list[Spoken]:
        if wanted.conversation is None:
            return []
        turns = self._conversations.of(wanted.tenant, wanted.user, wanted.conversation, limit=self._settings.max_turns_read)
        return await looked.at("conversation", turns, self._settings.conversation_timeout_s) or []

    async def _chosen(self, lines: list[Line], older: Sequence[Spoken], wanted: Wanted) -> tuple[list[Line], list[str]]:
        """The lines of facts and of earlier turns. Where there is much to choose from, in a thread: that is some milliseconds of work."""
        all_fit = fit(lines, self._settings.max_fact_tokens)
        most = self._settings.max_window_tokens
        if all_fit and len(older) <= _FEW and all_of(turns := _shown(older), max_tokens=most):
            return lines, render(turns, range(len(turns)))  # nothing to choose: no embedding either
        question = wanted.question[-_LONGEST_QUESTION:]
        vector = await self._vectors.of(line_of("user", question)) if question.strip() else None
        vectors = [] if all_fit else self._vectors.known([text_of_fact(line) for line in lines])

        def choosing() -> tuple[list[Line], list[str]]:
            best_lines = lines
            if not all_fit:
                best_lines = choose(lines, like_the_question(lines, vectors, question, vector), self._settings.max_fact_tokens)
            return best_lines, _windows(older, question, vector, most)

        return await asyncio.to_thread(choosing)

    def _note(self, request: Request, wanted: Wanted, trace: str) -> None:
        request.recalled = trace
        if wanted.mode != "off":
            # What follows must know that the answer is for this user alone.
            request.extras = replace(request.extras, memory=wanted.mode, personal=True)


class _Looked:
    """Looks things up, and remembers what was away."""

    def __init__(self) -> None:
        self.away: list[str] = []

    async def at(self, what: str, found: Coroutine[Any, Any, _Found], timeout_s: float) -> _Found | None:
        """None when there is no answer in time."""
        try:
            async with asyncio.timeout(timeout_s):
                return await found
        except (FarthingError, TimeoutError):
            self.away.append(what)
            return None


def _together(history: Sequence[Spoken], earlier: Sequence[Spoken]) -> list[Spoken]:
    found = {one.turn.id: one for one in (*earlier, *history)}
    return sorted(found.values(), key=lambda one: (one.turn.at, one.turn.number))


def _unsaid(turns: Sequence[Spoken], request: Request) -> list[Spoken]:
    """Those that do not stand in the messages of the client already."""
    there = {text_of(message.get("content")) for message in request.body["messages"] if isinstance(message, dict)}
    return [one for one in turns if one.text not in there]


def _windows(older: Sequence[Spoken], question: str, vector: bytes | None, max_tokens: int) -> list[str]:
    if not question.strip():
        return []
    turns = _shown(older)
    return render(turns, best(turns, question, vector, max_tokens=max_tokens))


def _shown(older: Sequence[Spoken]) -> list[Said]:
    return [
        Said(speaker=one.turn.role, text=quoted(one.text), session=one.turn.at.date().isoformat(), vector=one.turn.vector) for one in older
    ]


def _trace(facts: Sequence[Fact], windows: Sequence[str], latest: Sequence[Spoken], looked: _Looked) -> str:
    """For the header, the ledger and the span: counts, the ids of the facts, what was away."""
    shown = sum(not line.startswith("[") for line in windows)
    parts = [f"facts={len(facts)}", f"windows={shown}", f"turns={len(latest)}"]
    if facts:
        named = [str(fact.id)[_SHORT:] for fact in facts[:_MOST_NAMED]]
        parts.append(f"ids={','.join(named)}{'+' if len(facts) > _MOST_NAMED else ''}")
    if looked.away:
        parts.append(f"away={','.join(sorted(looked.away))}")
    return ";".join(parts)
