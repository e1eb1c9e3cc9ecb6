"""The composition root: settings → packs → slices → one ASGI application. Workers and tests call the same function."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from farthing.app_caches import Caches
from farthing.app_catalogue import LOCAL, catalogue_of, embedder_of, models_of, price_questions, providers_of
from farthing.app_events import Events
from farthing.app_extraction import Extraction
from farthing.app_feedback import Opinions, telling
from farthing.app_foresight import Foresight
from farthing.app_forgetting import Memories
from farthing.app_jobs import Jobs, prune_kind
from farthing.app_learning import Learning
from farthing.app_memory import Memory
from farthing.app_modes import Modes
from farthing.app_routing import Routing, router_names
from farthing.app_spending import Spending
from farthing.app_stores import Stores
from farthing.aws.cloudwatch import CloudWatch
from farthing.background import Background
from farthing.caching.flushing import flush_handler
from farthing.cipher import Cipher, open_cipher
from farthing.errors import BudgetExceeded, FarthingError
from farthing.flow import Hands, Hearers, Parts, errand_flow, request_flow
from farthing.http.admin import AdminDoors, Doors, door
from farthing.http.admin_budgets import BudgetDoors
from farthing.http.admin_cache import CacheDoors
from farthing.http.admin_events import BusDoors
from farthing.http.admin_foresight import ForesightDoors
from farthing.http.admin_keys import KeyDoors
from farthing.http.admin_modes import ModeDoors
from farthing.http.admin_requests import RequestDoors
from farthing.http.admin_retention import RetentionDoors
from farthing.http.admin_route import RouteDoors
from farthing.http.admin_routers import RouterDoors
from farthing.http.auth import KeyRing
from farthing.http.completions.doors import CompletionsDoor
from farthing.http.edge import EdgeDoor
from farthing.http.events import EventDoor
from farthing.http.generate import GenerateDoors
from farthing.http.generate_socket import GenerateSocket
from farthing.http.health import HealthDoors, State
from farthing.http.memory import PREFIX as MEMORY
from farthing.http.messages import MessagesDoors
from farthing.http.messages_answer import refusal as anthropic_refusal
from farthing.http.openai import OpenAIDoors
from farthing.http.openapi import openapi_door
from farthing.http.passage import Passage
from farthing.http.responses.conversations import Conversations
from farthing.http.responses.doors import ResponsesDoors
from farthing.http.server import Gateway, Opening
from farthing.logs import RequestLog
from farthing.orders import Runtime
from farthing.ports import (
    Provider,
)
from farthing.postgres.pool import Database
from farthing.prompts.stage import Prompts
from farthing.retention.policies import Policies
from farthing.retention.recorder import Recorder
from farthing.retention.transcript import Sealing
from farthing.retention.writer import TranscriptWriter
from farthing.routing.assignment import Assignment
from farthing.routing.catalogue import Catalogue
from farthing.routing.dispatch import Dispatch
from farthing.routing.gate import Gate
from farthing.settings import BudgetSettings, Settings
from farthing.snapshot import Snapshot
from farthing.spend.account import Account
from farthing.spend.hourly import HourlySpend
from farthing.spend.meter import Observer
from farthing.spend.price_book import PriceBook, open_book
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.telemetry.tracing import build as build_tracing
from farthing.telemetry.tracing import outgoing
from farthing.types import Event, KeyRecord, Operation, Principal

_log = logging.getLogger("farthing")
SOCKET_PATH = "/api/v1/generate/ws"
_GET = frozenset({"GET", "HEAD"})
_POST = frozenset({"POST"})
_ANY = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_FIRST_TRY_S = 0.2
_PROBE_TIMEOUT_S = 2.0
_METRICS_EVERY_S = 1.0


class Farthing:
    """One gateway process. `asgi` is the application; `start` and `stop` bracket its background work."""

    def __init__(self, settings: Settings, runtime: Runtime, stores: Stores) -> None:
        stores = telling(settings, stores, self._tell)
        self._settings = settings
        self._runtime = runtime
        self._stores = stores
        self._background = Background()
        self._embedder = embedder_of(settings, runtime.local)
        self._providers = providers_of(settings, runtime.local, self._embedder)
        self._catalogue = catalogue_of(settings, self._providers, _book(settings), router_names(settings))
        self._learning = Learning(settings, stores, self._embedder, self._catalogue)
        self._modes = Modes(settings, stores, self._catalogue, runtime.worker)
        self._routing = Routing(settings, self._catalogue, self._learning.learned, self._modes.of)
        self._extraction = Extraction(settings, stores, self._catalogue)
        cipher = _cipher(settings)
        keyed = settings.retention.encryption_key is not None
        self._foresight = Foresight(
            settings,
            stores,
            self._catalogue,
            self._routing.routers.admit,
            stores.facts.profile,
            cipher if keyed else None,
            may_spend=lambda who: self._modes.of(who, None).rank == 0,
        )
        hands = Hands(prune=prune_kind(settings, stores), waste=self._foresight.waste)
        self._jobs = Jobs(settings, stores, hands, self._foresight.crons, handles=runtime.handles)
        self._metrics = Metrics(runtime.worker)
        self._local_up = runtime.local is None
        self._database_away = False
        self._metrics_dir = settings.data / "run"
        self._metrics_dir.mkdir(parents=True, exist_ok=True)
        self._tracing = build_tracing(settings.telemetry, runtime.worker, self._metrics)
        self._spending = Spending(settings, stores, runtime.worker, self._observers())
        snapshot = Snapshot(settings.data / "snapshot", "keys", KeyRecord)
        self._ring = KeyRing(stores.keys, settings.keys, snapshot, before_use=self._spending.budgets.reload)
        semantic = self._embedder if settings.cache.semantic.enabled else None
        self._caches = Caches(settings, stores, semantic, cipher, shared=keyed)
        self._opinions = Opinions(settings, stores, self._caches.control, self._learning.book.hear, cipher)
        hearers = Hearers(
            observe=self._extraction.observe,
            extract=self._extraction.extract,
            foresee=self._foresight.hearer,
            flush=flush_handler(self._caches.control, settings.cache.flush_on),
        )
        self._events = Events(settings, stores, hearers, handles=runtime.handles, touches=self._foresight.touches)
        self._memories = Memories(settings, stores, self._caches)
        self._conversations = Conversations(stores.responses, cipher, settings.responses)
        told = self._events.publisher.tell
        self._memory = Memory(settings.memory, stores.facts, stores.turns, self._embedder, cipher, told)
        self._sealing = Sealing(cipher, settings.retention.max_bytes)
        self._transcripts = TranscriptWriter(stores.retention, self._sealing, settings.retention)
        self._policies = Policies(
            stores.retention, self._caches.flush, able=keyed, refresh_s=settings.keys.refresh_s, most=settings.keys.max_cached
        )
        self._cloudwatch = CloudWatch(settings.telemetry.cloudwatch, HourlySpend(stores.ledger))
        self._hearing = self._hearers()
        self.asgi = self._gateway()
        self._register_gauges()

    def _tell(self, event: Event) -> None:
        """Tell the bus of what has happened inside."""
        self._events.publisher.tell(event)

    def _observers(self) -> list[Observer]:
        observers: list[Observer] = [self._metrics.observe, *self._modes.observers]
        if self._tracing.enabled:
            observers.append(self._tracing.observe)
        if self._settings.telemetry.log_requests:
            observers.append(RequestLog().observe)
        return observers

    def _hearers(self) -> dict[str, Callable[[str], Awaitable[None]]]:
        """Who is told of the news on a channel. The others are the caches'."""
        return {
            "keys": lambda _: self._ring.reload(),
            "budgets": lambda _: self._spending.budgets.reload(),
            "retention": lambda _: self._policies.reload(),
            "routers": lambda _: self._learning.heard(),
            "config": partial(self._modes.heard, "config"),
            "spend": partial(self._modes.heard, "spend"),
            "events": self._events.heard,
            "jobs": self._jobs.heard,
            **dict.fromkeys(("facts", "states"), _unheard),
        }

    def _gateway(self) -> Gateway:
        settings, spending, catalogue = self._settings, self._spending, self._catalogue
        meter = spending.meter
        gate = Gate(max_held_bytes=settings.routing.max_held_bytes, timeout_s=settings.routing.checks_timeout_s)
        free_model, observed = partial(_free_model, settings.budgets), self._learning.book.checked
        dispatch = self._dispatch = Dispatch(catalogue, meter, spending.purse, free_model, gate=gate, observed=observed)
        prompts = Prompts(settings.prompts)
        recorder = Recorder(self._policies, self._transcripts)
        parts = Parts(
            account=Account(meter),
            mode=self._modes.stage,
            prompt=prompts,
            admission=spending.admission,
            recorder=recorder,
            edge=self._foresight.stage,
            memory=self._memory.stage,
            exact=self._caches.exact,
            semantic=self._caches.semantic,
            route=self._routing.stage,
            calls=spending.calls,
            dispatch=dispatch,
        )
        errands = errand_flow(parts)
        self._caches.errands.begin(errands)
        self._routing.begin(errands)
        self._extraction.begin(errands)
        self._foresight.begin(errands)
        passage = Passage(request_flow(parts), self._routing.routers.admit, meter, settings.server)
        openai = OpenAIDoors(passage, partial(_visible, catalogue))
        messages = MessagesDoors(passage)
        responses = ResponsesDoors(passage, self._conversations)
        completions = CompletionsDoor(passage, settings.completions)
        generate = GenerateDoors(passage, Assignment(catalogue, settings.generate.model, settings.generate.task_types))
        foresight = ForesightDoors(self._foresight.reports.actions, self._foresight.reports.waste)
        edge = EdgeDoor(passage, self._foresight.models)
        health = HealthDoors(self.state, partial(self._metrics.exposition, self._metrics_dir))
        known = frozenset(models_of(settings)) | set(settings.routing.routers)
        stores = self._stores
        keys = KeyDoors(stores.keys, self._ring, stores.budgets, known, settings.server)
        budgets = BudgetDoors(stores.budgets, stores.keys, settings.server)
        retention = RetentionDoors(stores.retention, self._memories.forgetting, settings.retention, settings.server)
        requests = RequestDoors(stores.requests, stores.retention, self._sealing.open)
        admit, chat = self._routing.routers.admit, partial(_chat_models, catalogue)
        caches = CacheDoors(self._caches.control, admit, chat, prompts.put, settings.server, self._tell)
        book = self._modes.book
        modes = ModeDoors(
            stores.config,
            self._modes.ladder,
            stores.keys,
            settings.server,
            known=lambda: book.document,
            changed=book.heard,
            lines=self._modes.lines,
        )
        routes = RouteDoors(self._routing.explain, settings.server)
        learning = self._learning
        routers = RouterDoors(stores.routers, stores.outcomes, learning.routers, learning.check, learning.book.hear, settings.server)
        taking_in = EventDoor(self._events.publisher, spending.admission, settings.events.door, settings.server)
        self._metrics.counter(names.EVENTS_REFUSED, "Events that came to the door and were refused.", lambda: taking_in.refused)
        bus = BusDoors(stores.events, settings.server)
        opinions = self._opinions.admin(self._sealing.open)
        these: list[Doors] = [
            keys,
            budgets,
            caches,
            modes,
            routes,
            routers,
            retention,
            requests,
            bus,
            opinions,
            foresight,
            self._jobs.doors,
        ]
        admin = AdminDoors(stores.ledger, these)
        doors = {
            "/v1/chat/completions": Opening(door=openai.chat, methods=_POST, spends=True),
            "/v1/embeddings": Opening(door=openai.embeddings, methods=_POST, spends=True),
            "/v1/responses": Opening(door=responses.create, methods=_POST, spends=True),
            "/v1/completions": Opening(door=completions.create, methods=_POST, spends=True),
            "/v1/models": Opening(door=openai.models, methods=_GET),
            "/v1/messages": Opening(door=messages.create, methods=_POST, spends=True, refusal=anthropic_refusal),
            "/v1/messages/count_tokens": Opening(door=messages.count_tokens, methods=_POST, refusal=anthropic_refusal),
            "/v1/events": Opening(door=taking_in.post, methods=_POST),
            "/v1/feedback": Opening(door=self._opinions.door(spending.admission).post, methods=_POST),
            "/api/v1/generate": Opening(door=generate.generate, methods=_POST, spends=True),
            SOCKET_PATH: Opening(door=generate.not_a_socket, methods=_GET),
            "/healthz": Opening(door=health.healthz, methods=_GET, needs_key=False),
            "/readyz": Opening(door=health.readyz, methods=_GET, needs_key=False),
            "/metrics": Opening(door=health.metrics, methods=_GET, needs_admin=True),
            "/openapi.json": Opening(door=openapi_door, methods=_GET),
        }
        prefixes = {
            "/v1/models/": Opening(door=openai.models, methods=_GET),
            "/v1/responses/": Opening(door=responses.below, methods=_ANY),
            MEMORY: Opening(door=self._memories.doors.below, methods=_ANY),
            "/v1/messages/": Opening(door=messages.unknown, methods=_ANY, refusal=anthropic_refusal),
            "/edge/": Opening(door=edge.get, methods=_GET, spends=True),
            "/admin/v1/": Opening(door=door(admin.application()), methods=_ANY, needs_admin=True),
        }
        sockets = {SOCKET_PATH: GenerateSocket(generate, settings.generate.socket)}
        return Gateway(doors, prefixes, self._ring, meter, outgoing, max_in_flight=settings.server.max_in_flight, sockets=sockets)

    def state(self) -> State:
        """What is waited for and what is away."""
        waiting = [] if self._ring.loaded else ["keys"]
        if not self._local_up:
            waiting.append("local model")
        if not self._caches.asked:
            waiting.append("known answers")
        away = {"database": self._database_away, "ledger store": self._spending.pump.store_away, "keys": not self._ring.confirmed}
        return State(waiting=waiting, degraded=[name for name, is_away in away.items() if is_away and name not in waiting])

    def _register_gauges(self) -> None:
        gauge, counter = self._metrics.gauge, self._metrics.counter
        gauge(names.DATABASE_AWAY, "1 while the database is away.", lambda: int(self._database_away), merge="max")
        self._spending.register(self._metrics)
        self._caches.register(self._metrics)
        self._routing.register(self._metrics)
        self._learning.register(self._metrics)
        self._modes.register(self._metrics)
        self._memory.register(self._metrics)
        self._events.register(self._metrics)
        self._jobs.register(self._metrics)
        self._extraction.register(self._metrics)
        self._opinions.register(self._metrics)
        self._foresight.register(self._metrics)
        gauge(names.RESPONSES_PENDING, "Turns of conversations that the store does not have yet.", lambda: self._conversations.pending)
        counter(names.RESPONSES_DROPPED, "Turns of conversations that were lost.", lambda: self._conversations.dropped)
        gauge(names.RETENTION_PENDING, "Transcripts that the store does not have yet.", lambda: len(self._transcripts))
        counter(names.RETENTION_STORED, "Transcripts that were stored.", lambda: self._transcripts.stored)
        counter(names.RETENTION_DROPPED, "Transcripts for which there was no room, or no database.", lambda: self._transcripts.dropped)
        counter(names.RETENTION_PRUNED, "Transcripts that expired or were too many.", lambda: self._transcripts.pruned)
        counter(names.CLOUDWATCH_FAILED, "Times that CloudWatch could not be told what is spent.", lambda: self._cloudwatch.failed)
        gauge(names.IN_FLIGHT, "Requests under way.", lambda: self.asgi.in_flight)
        gauge(names.UPSTREAM_CONNECTIONS, "Sockets to providers.", self._upstream_connections)
        for said in self._dispatch.checked:
            looked_at = "Answers that checks looked at."
            counter(names.CHECKED, looked_at, partial(self._dispatch.checked.__getitem__, said), attributes={names.CHECKS: said})
        counter(names.HEDGED, "Calls made beside one that was slow.", lambda: self._dispatch.hedged)

    def _upstream_connections(self) -> int:
        return sum(provider.open_connections for provider in self._providers.values())

    async def start(self) -> None:
        """Open the stores and begin the background work. Returns at once; `state` tells when all is there."""
        start = self._background.start
        if self._stores.database is not None:
            await self._stores.database.open()
            start("database", partial(self._look_at, self._stores.database))
        await self._spending.open()
        start("keys", self._ring.run)
        start("key snapshot", self._ring.save)
        self._caches.start(self._background)
        self._routing.start()
        self._learning.start(self._background)
        self._events.start(self._background)
        self._jobs.start(self._background)
        self._foresight.start(self._background, handles=self._runtime.handles)
        await self._modes.start(self._background, lambda: self._ring.loaded)
        start("changes", self._listen)
        self._spending.start(self._background)
        start("responses", self._conversations.run)
        start("old responses", self._conversations.prune)
        self._memory.start(self._background)
        start("retention", self._policies.run)
        start("transcripts", self._transcripts.run)
        start("old transcripts", self._transcripts.prune)
        start("metrics", partial(self._metrics.run, self._metrics_dir / f"metrics-{self._runtime.worker}.json", _METRICS_EVERY_S))
        if self._settings.telemetry.cloudwatch.mode != "off":
            start("CloudWatch", self._cloudwatch.run)
        if not self._local_up:
            start("local model", self._await_local)

    async def _look_at(self, database: Database) -> None:
        """See now and then whether the database is there. An idle worker would learn it from nobody."""
        while True:
            looking = asyncio.create_task(database.present())
            try:
                await asyncio.wait({looking}, timeout=_PROBE_TIMEOUT_S)
                if not looking.done():
                    self._note(away=True)  # it hangs; the pool's own deadline ends that later
                self._note(away=not await looking)
            finally:
                looking.cancel()
            await asyncio.sleep(self._settings.database.probe_interval_s)

    def _note(self, *, away: bool) -> None:
        if away != self._database_away:
            self._database_away = away
            _log.warning("the database is away, requests go on without it" if away else "the database is back")

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
        hear = self._hearing.get(channel)
        await (hear(payload) if hear is not None else self._caches.heard(channel, payload))

    async def _await_local(self) -> None:
        provider: Provider = self._providers[LOCAL]
        while not await provider.healthy():  # noqa: ASYNC110 - another process; nothing here can tell
            await asyncio.sleep(_FIRST_TRY_S / 2)
        self._local_up = True
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Stop the background work, write what is left, and let go of everything."""
        await self._jobs.stop()
        await self._background.stop()
        await self._events.drain()
        await self._extraction.aclose()
        await self._routing.aclose()
        await self._memory.aclose()
        await self._foresight.aclose()
        await self._caches.aclose()
        await self._ring.close()
        await self._spending.budgets.close()
        try:
            async with asyncio.timeout(2.0):
                await self._spending.drain()
                await self._caches.drain()
                await self._learning.book.drain()
                await self._foresight.drain()
                await self._conversations.drain()
                await self._memory.drain()
                await self._transcripts.drain()
        except (FarthingError, TimeoutError):
            _log.warning("the database is away at the end; ledger entries wait on disk for the next start")
            if self._conversations.pending:
                _log.error("%d turns of conversations were only in this worker and are lost", self._conversations.pending)
        self._spending.close()
        for provider in self._providers.values():
            await provider.aclose()
        if self._embedder is not None:
            await self._embedder.aclose()
        await self._tracing.aclose()
        if self._stores.database is not None:
            await self._stores.database.close()


async def _unheard(payload: str) -> None:
    """News that nobody here waits for."""
    del payload


def _free_model(settings: BudgetSettings, error: FarthingError) -> str | None:
    """What answers instead of a refusal."""
    return settings.free_model if isinstance(error, BudgetExceeded) or settings.fail == "free-model" else None


def _chat_models(catalogue: Catalogue, principal: Principal) -> list[str]:
    return [model.name for model in catalogue.visible(principal) if model.operation is Operation.CHAT]


def _visible(catalogue: Catalogue, principal: Principal) -> list[tuple[str, str]]:
    models = [(model.name, model.owner) for model in catalogue.visible(principal)]
    return models + [(router.name, router.owner) for router in catalogue.routers(principal)]


def _book(settings: Settings) -> PriceBook:
    return open_book(settings.data / "prices.json", price_questions(settings))


def _cipher(settings: Settings) -> Cipher:
    """What is kept of prompts and answers is sealed with it."""
    key, old = settings.retention.encryption_key, settings.retention.old_encryption_keys
    return open_cipher(key.get_secret_value() if key else None, [one.get_secret_value() for one in old], settings.data / "secret.key")
