"""The map: what a request passes, in this order, who hears of events, and what is done as jobs."""

from __future__ import annotations

import msgspec

from farthing.caching.exact import ExactCache
from farthing.caching.semantic import SemanticCache
from farthing.events.handler import Handler
from farthing.jobs.kind import Kind
from farthing.pipeline.stage import Next, Stage, compose
from farthing.prompts.stage import Prompts
from farthing.retention.recorder import Recorder
from farthing.routing.dispatch import Dispatch
from farthing.spend.account import Account
from farthing.spend.admission import Admission
from farthing.spend.calls import ModelCalls


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The stages, built by `app`. A stage that the settings turn off is None."""

    account: Account
    mode: Stage | None
    prompt: Prompts
    admission: Admission
    recorder: Recorder
    edge: Stage | None
    memory: Stage | None
    exact: ExactCache | None
    semantic: SemanticCache | None
    route: Stage | None
    calls: ModelCalls
    dispatch: Dispatch


def request_flow(parts: Parts) -> Next:
    """Put the stages together.

    `account` wraps all, so that each request is in the ledger once, whatever happens. `mode` says how much may be done for it.
    `prompt` puts the text that it names in front. `admission` holds keys to their limits. `recorder` keeps the texts of tenants that want
    it, whatever answers them. `edge` has answers to the actions of users that were foreseen. `memory` puts in what is known of the user:
    before the caches, so that it is part of what they tell requests apart by. The caches answer before anything is paid for: `exact` the
    same request again, `semantic` the same question in other words. `route` chooses the models for what they cannot answer; that waits in
    `calls` for the worker to have a hand free. `dispatch` owns attempts, checks, fallback and cancellation.
    """
    stages: list[Stage | None] = [
        parts.account,
        parts.mode,
        parts.prompt,
        parts.admission,
        parts.recorder,
        parts.edge,
        parts.memory,
        parts.exact,
        parts.semantic,
        parts.route,
        parts.calls,
    ]
    return compose([stage for stage in stages if stage is not None], parts.dispatch)


def errand_flow(parts: Parts) -> Next:
    """What a model call passes that we make on our own account: it is in the ledger and within budgets, but takes nobody's turn."""
    stages: list[Stage | None] = [parts.account, parts.exact, parts.semantic, parts.route, parts.calls]
    return compose([stage for stage in stages if stage is not None], parts.dispatch)


class Hearers(msgspec.Struct, frozen=True, kw_only=True):
    """The handlers of events, built by `app`. One that the settings turn off is None."""

    observe: Handler | None = None
    extract: Handler | None = None
    foresee: Handler | None = None
    flush: Handler | None = None


def event_flow(hearers: Hearers) -> list[Handler]:
    """Who hears of events.

    `observe` makes facts about users of what they do, by rules. `extract` has a model read what the rules leave, after a while and batched.
    `foresee` computes the answers that they will ask for. `flush` deletes cached answers that an event has made untrue.
    """
    handlers = [hearers.observe, hearers.extract, hearers.foresee, hearers.flush]
    return [handler for handler in handlers if handler is not None]


class Hands(msgspec.Struct, frozen=True, kw_only=True):
    """The kinds of jobs, built by `app`. One that the settings turn off is None."""

    prune: Kind | None = None
    waste: Kind | None = None


def job_flow(hands: Hands) -> list[Kind]:
    """What is done as jobs: `prune` deletes what is too old or too much, `waste` reports what was foreseen in vain."""
    kinds = [hands.prune, hands.waste]
    return [kind for kind in kinds if kind is not None]
