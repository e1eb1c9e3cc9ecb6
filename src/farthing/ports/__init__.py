"""What the slices need from the world. Each port has an adapter in a pack and one in `inprocess`, and a contract suite in `testing`."""

from farthing.ports.caching import EVERYTHING, AnswerStore, CacheControl, CacheRecords, QuestionIndex, QuestionStore
from farthing.ports.events import EventBus, Publisher
from farthing.ports.extraction import ReadingStore, SightingStore
from farthing.ports.feedback import FeedbackStore
from farthing.ports.foresight import LATE_CLICKS, EdgeStore, ForesightLog
from farthing.ports.jobs import Held, JobStore
from farthing.ports.memory import MOST_TURN_BYTES, FactStore, Forgetter, Personal, ReceiptStore, TurnStore
from farthing.ports.models import Call, Embedder, Encoded, Provider, Signer
from farthing.ports.modes import ConfigStore, SpendLog
from farthing.ports.money import BudgetStore, KeyStore, Ledger, LedgerStore, Meter, Purse, ReportBy, RequestRecords, Reservation
from farthing.ports.news import CHANNELS, Changes
from farthing.ports.routing import MOST_ARTEFACT_BYTES, OutcomeStore, RouteExplainer, RouterStore
from farthing.ports.texts import ResponseStore, RetentionStore

__all__ = [
    "CHANNELS",
    "EVERYTHING",
    "LATE_CLICKS",
    "MOST_ARTEFACT_BYTES",
    "MOST_TURN_BYTES",
    "AnswerStore",
    "BudgetStore",
    "CacheControl",
    "CacheRecords",
    "Call",
    "Changes",
    "ConfigStore",
    "EdgeStore",
    "Embedder",
    "Encoded",
    "EventBus",
    "FactStore",
    "FeedbackStore",
    "ForesightLog",
    "Forgetter",
    "Held",
    "JobStore",
    "KeyStore",
    "Ledger",
    "LedgerStore",
    "Meter",
    "OutcomeStore",
    "Personal",
    "Provider",
    "Publisher",
    "Purse",
    "QuestionIndex",
    "QuestionStore",
    "ReadingStore",
    "ReceiptStore",
    "ReportBy",
    "RequestRecords",
    "Reservation",
    "ResponseStore",
    "RetentionStore",
    "RouteExplainer",
    "RouterStore",
    "SightingStore",
    "Signer",
    "SpendLog",
    "TurnStore",
]
