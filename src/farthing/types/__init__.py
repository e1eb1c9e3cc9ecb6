"""What the slices share: the request, its answer, and the facts that are recorded about them.

Money is integer micro-dollars (1 USD = 1,000,000). Durations are integer microseconds where recorded, float seconds where waited for.
Ids are UUIDv7: they sort by time.
"""

from farthing.types.basic import Json, dollars, new_id, time_of, utc_now, uuid7_at
from farthing.types.caching import (
    CacheScope,
    Neighbour,
    Question,
    QuestionsGone,
    ServedHit,
    StoredAnswer,
    Verdict,
    VerdictBy,
    question_worth,
)
from farthing.types.callers import ANONYMOUS, KeyRecord, Limits, Principal, Quota
from farthing.types.events import Backlog, DeadLetter, Delivery, Event, Per, Subscription
from farthing.types.feedback import Feedback
from farthing.types.foresight import ActionCounts, Click, EdgeAnswer, Foreseen, WasteReport
from farthing.types.memory import Fact, NewFact, Profile, Turn
from farthing.types.modes import DEEP, TOTAL, Document, Mode, ModeEntry, ModeState, SpendRow, scopes_of
from farthing.types.money import HEDGE_LOST, Attempt, LedgerEntry, Price, Report, Totals, Usage
from farthing.types.prompts import Prompt
from farthing.types.requests import ANSWER, CHECK, Answer, ChunkStream, Completion, Extras, Lifeline, Operation, Request, Source
from farthing.types.routing import Outcome, OutcomeBy, Promotion, RouterVersion, promotion_trail, supersedes
from farthing.types.texts import NewTranscript, RetentionPolicy, StoredResponse, StoredTranscript

__all__ = [
    "ANONYMOUS",
    "ANSWER",
    "CHECK",
    "DEEP",
    "HEDGE_LOST",
    "TOTAL",
    "ActionCounts",
    "Answer",
    "Attempt",
    "Backlog",
    "CacheScope",
    "ChunkStream",
    "Click",
    "Completion",
    "DeadLetter",
    "Delivery",
    "Document",
    "EdgeAnswer",
    "Event",
    "Extras",
    "Fact",
    "Feedback",
    "Foreseen",
    "Json",
    "KeyRecord",
    "LedgerEntry",
    "Lifeline",
    "Limits",
    "Mode",
    "ModeEntry",
    "ModeState",
    "Neighbour",
    "NewFact",
    "NewTranscript",
    "Operation",
    "Outcome",
    "OutcomeBy",
    "Per",
    "Price",
    "Principal",
    "Profile",
    "Promotion",
    "Prompt",
    "Question",
    "QuestionsGone",
    "Quota",
    "Report",
    "Request",
    "RetentionPolicy",
    "RouterVersion",
    "ServedHit",
    "Source",
    "SpendRow",
    "StoredAnswer",
    "StoredResponse",
    "StoredTranscript",
    "Subscription",
    "Totals",
    "Turn",
    "Usage",
    "Verdict",
    "VerdictBy",
    "WasteReport",
    "dollars",
    "new_id",
    "promotion_trail",
    "question_worth",
    "scopes_of",
    "supersedes",
    "time_of",
    "utc_now",
    "uuid7_at",
]
