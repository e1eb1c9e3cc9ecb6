"""The composition root: settings → packs → slices → one ASGI application. Workers and tests call the same function."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import msgspec

from farthing.app_catalogue import LOCAL, catalogue_of, models_of, price_questions, providers_of
from farthing.background import Background
from farthing.caching.exact import ExactCache
from farthing.caching.memory import MemoryTier
from farthing.caching.shared import SharedTier
from farthing.errors import FarthingError
from farthing.flow import Parts, request_flow
from farthing.http.admin import AdminDoors, door
from farthing.http.auth import KeyRing
from farthing.http.health import HealthDoors, State
from farthing.http.openai import OpenAIDoors
from farthing.http.openapi import openapi_door
from farthing.http.passage import Passage
from farthing.http.server import Gateway, Opening
from farthing.logs import RequestLog
from farthing.orders import Runtime
from farthing.ports import AnswerStore, Changes, KeyStore, LedgerStore, Provider
from farthing.postgres.answers import PostgresAnswers
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.keys import PostgresKeys
from farthing.postgres.ledger import PostgresLedger
from farthing.postgres.pool import Database
from farthing.routing.catalogue import Catalogue
from farthing.routing.dispatch import Dispatch
from farthing.settings import Settings
from farthing.spend.account import Account
from farthing.spend.journal import Journal
from farthing.spend.meter import LedgerMeter, Observer
from farthing.spend.price_book import PriceBook, open_book
from farthing.spend.pump import Pump
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.telemetry.tracing import build as build_tracing
from farthing.telemetry.tracing import outgoing
from farthing.types import Principal

_log = logging.getLogger("farthing")
_GET = frozenset({"GET", "HEAD"})
_POST = frozenset({"POST"})
_ANY = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_FIRST_TRY_S = 0.2
_METRICS_EVERY_S = 1.0


class Stores(msgspec.Struct, frozen=True, kw_only=True):
    """The durable side, behind ports. `database` is what must be opened and closed, None for stores in process."""

    keys: KeyStore
    ledger: LedgerStore
    answers: AnswerStore
    changes: Changes | None
    database: Database | None = None


def postgres_stores(settings: Settings, url: str) -> Stores:
    """The stores on PostgreSQL."""
    database = Database(
        url,
        max_size=settings.database.pool_size,
        statement_timeout_s=settings.database.statement_timeout_s,
        connect_timeout_s=settings.database.connect_timeout_s,
    )
    return Stores(
        keys=PostgresKeys(database),
        ledger=PostgresLedger(database),
        answers=PostgresAnswers(database),
        changes=PostgresChanges(url, connect_timeout_s=settings.database.connect_timeout_s),
        database=database,
    )


class Farthing:
    """One gateway process. `asgi` is the application; `start` and `stop` bracket its background work."""

    def __init__(self, settings: Settings, runtime: Runtime, stores: Stores) -> None:
        self._settings = settings
        self._runtime = runtime
        self._stores = stores
        self._background = Background()
        self._providers = providers_of(settings, runtime.local)
        self._catalogue = catalogue_of(settings, self._providers, _book(settings))
        self._journal = Journal(
            settings.data / "ledger", segment_bytes=settings.ledger.segment_bytes, max_bytes=settings.ledger.max_spool_bytes
        )
        self._pump = Pump(self._journal, stores.ledger, interval_s=settings.ledger.flush_interval_s, max_batch=settings.ledger.max_batch)
        self._ring = KeyRing(stores.keys, settings.keys)
        self._memory = MemoryTier(settings.cache.exact.max_bytes)
        self._shared = SharedTier(stores.answers, settings.cache.exact)
        self._exact = ExactCache(settings.cache.exact, self._memory, self._shared)
        self._metrics = Metrics(runtime.worker)
        self._local_up = runtime.local is None
        self._metrics_dir = settings.data / "run"
        self._metrics_dir.mkdir(parents=True, exist_ok=True)
        self._tracing = build_tracing(settings.telemetry, runtime.worker, self._metrics)
        self._meter = LedgerMeter(self._journal, self._observers(), anonymous_per_minute=settings.ledger.unauthenticated_rows_per_minute)
        self.asgi = self._gateway()
        self._register_gauges()

    def _observers(self) -> list[Observer]:
        observers: list[Observer] = [self._metrics.observe]
        if self._tracing.enabled:
            observers.append(self._tracing.observe)
        if self._settings.telemetry.log_requests:
            observers.append(RequestLog().observe)
        return observers

    def _gateway(self) -> Gateway:
        settings, meter, catalogue = self._settings, self._meter, self._catalogue
        exact = self._exact if settings.cache.exact.enabled else None
        flow = request_flow(Parts(account=Account(meter), exact=exact, dispatch=Dispatch(catalogue, meter)))
        passage = Passage(flow, catalogue.admit, meter, settings.server)
        openai = OpenAIDoors(passage, partial(_visible, catalogue))
        health = HealthDoors(self.state, partial(self._metrics.exposition, self._metrics_dir))
        known = frozenset(models_of(settings))
        admin = AdminDoors(self._stores.keys, self._ring, self._stores.ledger, known, settings.server)
        doors = {
            "/v1/chat/completions": Opening(door=openai.chat, methods=_POST, spends=True),
            "/v1/embeddings": Opening(door=openai.embeddings, methods=_POST, spends=True),
            "/v1/models": Opening(door=openai.models, methods=_GET),
            "/healthz": Opening(door=health.healthz, methods=_GET, needs_key=False),
            "/readyz": Opening(door=health.readyz, methods=_GET, needs_key=False),
            "/metrics": Opening(door=health.metrics, methods=_GET, needs_admin=True),
            "/openapi.json": Opening(door=openapi_door, methods=_GET),
        }
        prefixes = {
            "/v1/models/": Opening(door=openai.models, methods=_GET),
            "/admin/v1/": Opening(door=door(admin.application()), methods=_ANY, needs_admin=True),
        }
        return Gateway(doors, prefixes, self._ring, meter, outgoing, max_in_flight=settings.server.max_in_flight)

    def state(self) -> State:
        """What is waited for and what is away."""
        waiting = [] if self._ring.loaded else ["keys"]
        if not self._local_up:
            waiting.append("local model")
        degraded = ["ledger store"] if self._pump.store_away else []
        return State(waiting=waiting, degraded=degraded)

    def _register_gauges(self) -> None:
        gauge, counter = self._metrics.gauge, self._metrics.counter
        backlog = "Ledger entries that the store does not have yet."
        gauge(names.LEDGER_BACKLOG, backlog, lambda: self._journal.backlog_bytes, unit="By")
        counter(names.LEDGER_DROPPED, "Ledger entries for which there was no room.", lambda: self._journal.dropped)
        gauge(names.LEDGER_STORE_AWAY, "1 while the ledger's store is away.", lambda: int(self._pump.store_away), merge="max")
        gauge(names.CACHE_ENTRIES, "Answers in the memory tier.", lambda: len(self._memory))
        gauge(names.CACHE_BYTES, "Size of the answers in the memory tier.", lambda: self._memory.bytes, unit="By")
        counter(names.CACHE_DROPPED, "Answers that found the write queue full.", lambda: self._shared.dropped)
        gauge(names.FLIGHTS, "Cache misses under way that others may join.", lambda: self._exact.flights)
        gauge(names.IN_FLIGHT, "Requests under way.", lambda: self.asgi.in_flight)
        gauge(names.UPSTREAM_CONNECTIONS, "Sockets to providers.", self._upstream_connections)

    def _upstream_connections(self) -> int:
        return sum(provider.open_connections for provider in self._providers.values())

    async def start(self) -> None:
        """Open the stores and begin the background work. Returns at once; `state` tells when all is there."""
        if self._stores.database is not None:
            await self._stores.database.open()
        start = self._background.start
        start("keys", self._keep_keys)
        start("changes", self._listen)
        start("ledger", self._pump.run)
        start("answers", self._shared.run)
        start("metrics", partial(self._metrics.run, self._metrics_dir / f"metrics-{self._runtime.worker}.json", _METRICS_EVERY_S))
        if not self._local_up:
            start("local model", self._await_local)

    async def _keep_keys(self) -> None:
        while not self._ring.loaded:
            try:
                await self._ring.reload()
            except FarthingError:
                await asyncio.sleep(_FIRST_TRY_S)
        await self._ring.run()

    async def _listen(self) -> None:
        """Hear from other workers; after each interruption, read what was missed."""
        if self._stores.changes is None:
            await asyncio.Event().wait()
            return
        while True:
            try:
                async for channel, payload in self._stores.changes.watch():
                    await self._heard(channel, payload)
            except FarthingError as error:
                _log.debug("no news from other workers: %s", error)
            await asyncio.sleep(1.0)

    async def _heard(self, channel: str, payload: str) -> None:
        if channel == "keys":
            await self._ring.reload()
        elif payload:
            self._shared.learn([bytes.fromhex(key) for key in payload.split(",")])
        else:
            await self._shared.reload()

    async def _await_local(self) -> None:
        provider: Provider = self._providers[LOCAL]
        while not await provider.healthy():  # noqa: ASYNC110 - another process; nothing here can tell
            await asyncio.sleep(_FIRST_TRY_S / 2)
        self._local_up = True
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Stop the background work, write what is left, and let go of everything."""
        await self._background.stop()
        try:
            async with asyncio.timeout(2.0):
                await self._pump.drain()
                await self._shared.drain()
        except (FarthingError, TimeoutError):
            _log.warning("the database is away at the end; ledger entries wait on disk for the next start")
        self._journal.close()
        for provider in self._providers.values():
            await provider.aclose()
        await self._tracing.aclose()
        if self._stores.database is not None:
            await self._stores.database.close()


def _visible(catalogue: Catalogue, principal: Principal) -> list[tuple[str, str]]:
    return [(model.name, model.owner) for model in catalogue.visible(principal)]


def _book(settings: Settings) -> PriceBook:
    return open_book(settings.data / "prices.json", price_questions(settings))
