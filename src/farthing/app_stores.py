"""The durable side of a gateway: every store, on PostgreSQL. Part of the composition root."""

from __future__ import annotations

from importlib.util import find_spec

import msgspec

from farthing.errors import SettingsError
from farthing.facts import Most
from farthing.inprocess.config_file import FileConfig
from farthing.ports import (
    AnswerStore,
    BudgetStore,
    CacheRecords,
    Changes,
    ConfigStore,
    EdgeStore,
    EventBus,
    FactStore,
    FeedbackStore,
    ForesightLog,
    JobStore,
    KeyStore,
    LedgerStore,
    OutcomeStore,
    QuestionStore,
    ReadingStore,
    ReceiptStore,
    RequestRecords,
    ResponseStore,
    RetentionStore,
    RouterStore,
    SightingStore,
    SpendLog,
    TurnStore,
)
from farthing.postgres.answers import PostgresAnswers
from farthing.postgres.budgets import PostgresBudgets
from farthing.postgres.cache_records import PostgresCacheRecords
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.config import PostgresConfig
from farthing.postgres.edge import PostgresEdge
from farthing.postgres.events import PostgresEvents
from farthing.postgres.events_storing import Append, append
from farthing.postgres.facts import PostgresFacts
from farthing.postgres.feedback import PostgresFeedback
from farthing.postgres.foresight_log import PostgresForesightLog
from farthing.postgres.jobs import PostgresJobs
from farthing.postgres.keys import PostgresKeys
from farthing.postgres.ledger import PostgresLedger
from farthing.postgres.outcomes import PostgresOutcomes
from farthing.postgres.pool import Database
from farthing.postgres.questions import PostgresQuestions
from farthing.postgres.readings import PostgresReadings
from farthing.postgres.receipts import PostgresReceipts
from farthing.postgres.requests import PostgresRequests
from farthing.postgres.responses import PostgresResponses
from farthing.postgres.retention import PostgresRetention
from farthing.postgres.routers import PostgresRouters
from farthing.postgres.sightings import PostgresSightings
from farthing.postgres.spend_log import PostgresSpendLog
from farthing.postgres.turns import PostgresTurns
from farthing.settings import Settings


class Stores(msgspec.Struct, frozen=True, kw_only=True):
    """The durable side, behind ports. `database` is what must be opened and closed, None for stores in process."""

    keys: KeyStore
    ledger: LedgerStore
    budgets: BudgetStore
    answers: AnswerStore
    questions: QuestionStore
    readings: ReadingStore
    records: CacheRecords
    responses: ResponseStore
    turns: TurnStore
    retention: RetentionStore
    requests: RequestRecords
    routers: RouterStore
    sightings: SightingStore
    outcomes: OutcomeStore
    events: EventBus
    edge: EdgeStore
    foresight: ForesightLog
    facts: FactStore
    receipts: ReceiptStore
    jobs: JobStore
    feedback: FeedbackStore
    changes: Changes | None
    config: ConfigStore
    spend: SpendLog
    database: Database | None = None


def postgres_stores(settings: Settings, url: str) -> Stores:
    """The stores on PostgreSQL."""
    database = Database(
        url,
        max_size=settings.database.pool_size,
        statement_timeout_s=settings.database.statement_timeout_s,
        connect_timeout_s=settings.database.connect_timeout_s,
    )
    edge = _edge(settings, database, url)
    outbox = _outbox(settings)
    return Stores(
        keys=PostgresKeys(database),
        ledger=PostgresLedger(database),
        budgets=PostgresBudgets(database, append=outbox),
        answers=PostgresAnswers(database),
        questions=PostgresQuestions(database),
        readings=PostgresReadings(database),
        records=PostgresCacheRecords(database),
        responses=PostgresResponses(database),
        turns=PostgresTurns(database),
        retention=PostgresRetention(database),
        requests=PostgresRequests(database),
        routers=PostgresRouters(database),
        sightings=PostgresSightings(database),
        outcomes=PostgresOutcomes(database),
        edge=edge,
        foresight=PostgresForesightLog(database),
        events=_events(settings, database, edge),
        receipts=PostgresReceipts(database),
        jobs=PostgresJobs(database, lease_s=settings.jobs.lease_s),
        facts=_facts(settings, database),
        feedback=PostgresFeedback(database, append=outbox),
        changes=PostgresChanges(url, connect_timeout_s=settings.database.connect_timeout_s),
        config=_config(settings, database),
        spend=PostgresSpendLog(database),
        database=database,
    )


def _facts(settings: Settings, database: Database) -> FactStore:
    chosen, most = settings.memory.facts, Most(facts=settings.memory.max_facts)
    if chosen.store == "dynamodb":
        from farthing.aws.dynamodb_facts import DynamoDbFacts  # noqa: PLC0415 - with what it takes of AWS, for who uses it

        return DynamoDbFacts(chosen.dynamodb, most=most)
    return PostgresFacts(database, most=most)


def _edge(settings: Settings, database: Database, url: str) -> EdgeStore:
    chosen = settings.foresight.edge
    if chosen.store == "cloudfront":
        from farthing.aws.edge_kv import CloudFrontEdge  # noqa: PLC0415 - with what it takes of AWS, for who uses it

        return CloudFrontEdge(chosen.cloudfront)
    return PostgresEdge(database, url, connect_timeout_s=settings.database.connect_timeout_s)


def _outbox(settings: Settings) -> Append | None:
    """What stores events in the transaction of a change; None where the bus is elsewhere."""
    return append if settings.events.bus == "postgres" else None


def _events(settings: Settings, database: Database, edge: EdgeStore) -> EventBus:
    """Versions of states go up where the answers are that hang on them. In PostgreSQL both are one transaction."""
    chosen = settings.events
    if chosen.bus == "aws":
        from farthing.aws.eventbridge import EventBridgeBus  # noqa: PLC0415 - with what it takes of AWS, for who uses it

        return EventBridgeBus(chosen.aws, max_backlog=chosen.max_backlog, bump=edge.bump)
    bump = None if settings.foresight.edge.store == "postgres" else edge.bump
    return PostgresEvents(database, max_backlog=chosen.max_backlog, bump=bump)


def _config(settings: Settings, database: Database) -> ConfigStore:
    chosen = settings.config
    if chosen.store == "file":
        return FileConfig(chosen.path or settings.data / "config", poll_s=chosen.poll_s)
    if chosen.store == "appconfig":
        from farthing.aws.appconfig import AppConfig  # noqa: PLC0415 - with what it takes of AWS, for who uses it

        return AppConfig(chosen.appconfig)
    return PostgresConfig(database, poll_s=chosen.poll_s, append=_outbox(settings))


def check_redis(settings: Settings) -> None:
    """See that the package is there where a Redis is named. Raises `SettingsError`."""
    if settings.redis.url is not None and find_spec("redis") is None:
        raise SettingsError("redis.url: needs the redis package: pip install 'farthing[redis]'")
