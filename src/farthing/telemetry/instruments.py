"""What Farthing measures and shows: every metric, span and attribute name, and which cells of a series make which metric.

Names follow OpenTelemetry's GenAI conventions (open-telemetry/semantic-conventions-genai, 0.1.0); what they have no name for is under
`farthing.`. No label of a metric ever holds a tenant, a user, a key or text that a caller chose.
"""

from __future__ import annotations

import re

from farthing.telemetry.files import ERROR_OTHER
from farthing.telemetry.text import Instrument, width

# OpenTelemetry's attributes.
OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  # an attribute, not a secret
USAGE_INPUT = "gen_ai.usage.input_tokens"
USAGE_OUTPUT = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING = "gen_ai.usage.reasoning.output_tokens"
ERROR_TYPE = "error.type"
REQUEST_PARAMETERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}
"""Numbers of a chat request that its span shows. Nothing else of the body is ever shown."""

# Our attributes.
MODEL = "farthing.model"
SOURCE = "farthing.source"
STATUS_CLASS = "farthing.status_class"
STATUS = "farthing.status"
PRICE_KIND = "farthing.price"
TOKEN_KIND = "farthing.token.type"  # noqa: S105  # an attribute, not a secret
COST = "farthing.cost_microusd"
SAVED = "farthing.saved_microusd"
PRICE_SOURCE = "farthing.price.source"
USAGE_SOURCE = "farthing.usage.source"
TENANT = "farthing.tenant"
ATTEMPT = "farthing.attempt"
FINAL = "farthing.final"
ROUTE = "farthing.route"
CHECKS = "farthing.checks"
MEMORY = "farthing.memory"
MODE = "farthing.mode"
REQUEST_ID = "farthing.request.id"
LIMIT = "farthing.limit"
CHECK = "farthing.check"
BOUND = "farthing.bound"
TIER = "farthing.tier"
READER = "farthing.memory.reader"
REASON = "farthing.memory.reason"
DECISION = "farthing.decision"
RECALL = "farthing.recall"
RESULT = "farthing.result"
HANDLER = "farthing.handler"
END = "farthing.end"
VERDICT = "farthing.verdict"

# Gauges and counters that the composition root registers.
LEDGER_BACKLOG = "farthing.ledger.backlog"
LEDGER_DROPPED = "farthing.ledger.dropped"
LEDGER_REJECTED = "farthing.ledger.rejected"
DATABASE_AWAY = "farthing.database.away"
LEDGER_STORE_AWAY = "farthing.ledger.store_away"
CACHE_ENTRIES = "farthing.cache.entries"
CACHE_BYTES = "farthing.cache.bytes"
CACHE_DROPPED = "farthing.cache.dropped"
ERRANDS_SKIPPED = "farthing.errands.skipped"
ROUTE_QUESTIONS_SKIPPED = "farthing.route.questions.skipped"
CHECKS_UNDECIDED = "farthing.checks.undecided"
QUESTIONS = "farthing.cache.questions"
QUESTIONS_BYTES = "farthing.cache.questions.bytes"
QUESTIONS_PENDING = "farthing.cache.questions.pending"
QUESTIONS_DROPPED = "farthing.cache.questions.dropped"
SEMANTIC_SKIPPED = "farthing.cache.semantic.skipped"
SEMANTIC_SAVED = "farthing.cache.semantic.saved"
SEMANTIC_AUDITED = "farthing.cache.semantic.audited"
SEMANTIC_JUDGED = "farthing.cache.semantic.judged"
SEMANTIC_ERROR = "farthing.cache.semantic.error"
LEARNED = "farthing.routing.learned"
OUTCOMES_PENDING = "farthing.routing.outcomes.pending"
OUTCOMES_DROPPED = "farthing.routing.outcomes.dropped"
EVENTS_REFUSED = "farthing.events.refused"
FEEDBACK = "farthing.feedback"
EVENTS_STORED = "farthing.events.stored"
EVENTS_REPEATED = "farthing.events.repeated"
EVENTS_DROPPED = "farthing.events.dropped"
EVENTS_PENDING = "farthing.events.pending"
EVENTS_HANDLED = "farthing.events.handled"
EVENTS_FAILED = "farthing.events.failed"
EVENTS_DEAD = "farthing.events.dead"
EVENTS_LOST = "farthing.events.lost"
EVENTS_UNDER_WAY = "farthing.events.under_way"
EVENTS_BACKLOG = "farthing.events.backlog"
EVENTS_LAG = "farthing.events.lag"
JOBS_UNDER_WAY = "farthing.jobs.under_way"
JOBS_ENDED = "farthing.jobs.ended"
JOBS_FIRED = "farthing.jobs.fired"
EDGE_CLICKS = "farthing.edge.clicks"
EDGE_MAKING = "farthing.edge.making"
FORESEEN = "farthing.foresight.answers"
CLICKS_PENDING = "farthing.foresight.clicks.pending"
CLICKS_DROPPED = "farthing.foresight.clicks.dropped"
EVENTS_INBOX = "farthing.events.inbox"
EVENTS_REFUSED = "farthing.events.inbox_refused"
RESPONSES_PENDING = "farthing.responses.pending"
RESPONSES_DROPPED = "farthing.responses.dropped"
RECALLED = "farthing.memory.recalled"
TURNS_PENDING = "farthing.memory.turns.pending"
TURNS_DROPPED = "farthing.memory.turns.dropped"
RETENTION_PENDING = "farthing.retention.pending"
RETENTION_STORED = "farthing.retention.stored"
RETENTION_DROPPED = "farthing.retention.dropped"
RETENTION_PRUNED = "farthing.retention.pruned"
CLOUDWATCH_FAILED = "farthing.cloudwatch.failed"
FLIGHTS = "farthing.flights"
IN_FLIGHT = "farthing.requests.in_flight"
UPSTREAM_CONNECTIONS = "farthing.upstream.connections"
CALLS = "farthing.calls"
WAITING = "farthing.waiting"
LIMITED = "farthing.limited"
CHECKED = "farthing.checked"
HEDGED = "farthing.hedged"
BUDGET_REFUSED = "farthing.budget.refused"
BUDGET_STORE_AWAY = "farthing.budget.store_away"
MODE_RANK = "farthing.mode.rank"
MODE_CHANGES = "farthing.mode.changes"
MODE_STORE_AWAY = "farthing.mode.store_away"
MODE_SPENT = "farthing.mode.spent"
MODE_EXHAUSTED = "farthing.mode.exhausted_in"
MODE_NEWS_LOST = "farthing.mode.news_lost"
LIMITS_UNCOUNTED = "farthing.limits.uncounted"
FACTS_LEARNT = "farthing.memory.learnt"
FACTS_DROPPED = "farthing.memory.dropped"
EXTRACTIONS = "farthing.memory.extractions"
EXTRACTIONS_EMPTY = "farthing.memory.extractions_empty"
EXTRACTIONS_UNPAID = "farthing.memory.extractions_unpaid"
SPANS_DROPPED = "farthing.telemetry.spans_dropped"
WORKERS = "farthing.workers"
SERIES = "farthing.telemetry.series"
FAILURES = "farthing.telemetry.failures"

_PLAIN_CODE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")

# What a series is told apart by: positions in its tuple of labels.
_OPERATION, _MODEL, _UPSTREAM, _PROVIDER, _SOURCE, _STATUS, _ERROR, _PRICE = range(8)

SECONDS = tuple(10_000 * 2**step for step in range(14))
"""Microseconds: 0.01 s to 81.92 s, the buckets that the GenAI conventions advise for all durations."""
TOKENS = tuple(4**step for step in range(14))
"""1 to 67,108,864, as the GenAI conventions advise."""
REQUEST_SECONDS = (250, 500, 1_000, 2_500, 5_000, *SECONDS)
"""Microseconds: finer at the fast end, where answers from the cache are."""


# Where in the cells of a series each number is. Counters first, then histograms.
AT_REQUESTS, AT_UNAUTHENTICATED, AT_ESTIMATED, AT_SPENT, AT_SAVED, AT_OVERSPENT, AT_READ, AT_WRITTEN, AT_REASONED = range(9)
AT_DURATION = 9
AT_INPUT = AT_DURATION + width(SECONDS)
AT_OUTPUT = AT_INPUT + width(TOKENS)
AT_FIRST = AT_OUTPUT + width(TOKENS)
AT_ELAPSED = AT_FIRST + width(SECONDS)
WIDTH = AT_ELAPSED + width(REQUEST_SECONDS)
LAYOUT = f"1.{WIDTH}"


_GEN_AI = ((OPERATION, _OPERATION), (PROVIDER, _PROVIDER), (REQUEST_MODEL, _UPSTREAM), (MODEL, _MODEL))
_MADE_BY = ((MODEL, _MODEL), (PROVIDER, _PROVIDER))

INSTRUMENTS = (
    Instrument(
        name="gen_ai.client.operation.duration",
        unit="s",
        help="Duration of calls to model providers, failed ones included.",
        attributes=(*_GEN_AI, (ERROR_TYPE, _ERROR)),
        parts=(((), AT_DURATION),),
        bounds=SECONDS,
        scale=1_000_000,
    ),
    Instrument(
        name="gen_ai.client.token.usage",
        unit="{token}",
        help="Input and output tokens of calls to model providers.",
        attributes=_GEN_AI,
        parts=((((TOKEN_TYPE, "input"),), AT_INPUT), (((TOKEN_TYPE, "output"),), AT_OUTPUT)),
        bounds=TOKENS,
    ),
    Instrument(
        name="gen_ai.client.operation.time_to_first_chunk",
        unit="s",
        help="Time from the call to the first chunk with content, of streams.",
        attributes=_GEN_AI,
        parts=(((), AT_FIRST),),
        bounds=SECONDS,
        scale=1_000_000,
    ),
    Instrument(
        name="farthing.requests",
        unit="{request}",
        help="Requests, by what answered them.",
        attributes=((OPERATION, _OPERATION), (MODEL, _MODEL), (SOURCE, _SOURCE), (STATUS_CLASS, _STATUS)),
        parts=(((), AT_REQUESTS),),
    ),
    Instrument(
        name="farthing.request.duration",
        unit="s",
        help="Time from a request's arrival to the end of its answer, all attempts included.",
        attributes=((OPERATION, _OPERATION), (SOURCE, _SOURCE)),
        parts=(((), AT_ELAPSED),),
        bounds=REQUEST_SECONDS,
        scale=1_000_000,
    ),
    Instrument(
        name="farthing.requests.unauthenticated",
        unit="{request}",
        help="Requests refused for want of a valid key.",
        parts=(((), AT_UNAUTHENTICATED),),
    ),
    Instrument(
        name="farthing.usage.estimated",
        unit="{attempt}",
        help="Attempts whose tokens were estimated because the provider did not say.",
        attributes=_MADE_BY,
        parts=(((), AT_ESTIMATED),),
    ),
    Instrument(
        name="farthing.spent.microusd",
        unit="{microusd}",
        help="Spent, in micro-dollars. Notional: at a stand-in price that nobody bills.",
        attributes=(*_MADE_BY, (PRICE_KIND, _PRICE)),
        parts=(((), AT_SPENT),),
    ),
    Instrument(
        name="farthing.saved.microusd",
        unit="{microusd}",
        help="Saved against doing without Farthing, in micro-dollars. Net savings: this less farthing.overspent.microusd.",
        attributes=((MODEL, _MODEL), (SOURCE, _SOURCE)),
        parts=(((), AT_SAVED),),
    ),
    Instrument(
        name="farthing.overspent.microusd",
        unit="{microusd}",
        help="What fallbacks cost beyond the model that was asked for, in micro-dollars.",
        attributes=((MODEL, _MODEL), (SOURCE, _SOURCE)),
        parts=(((), AT_OVERSPENT),),
    ),
    Instrument(
        name="farthing.provider.tokens",
        unit="{token}",
        help="Tokens that providers read from or wrote to their prompt caches, or spent on reasoning; part of gen_ai.client.token.usage.",
        attributes=_MADE_BY,
        parts=(
            (((TOKEN_KIND, "cache_read"),), AT_READ),
            (((TOKEN_KIND, "cache_write"),), AT_WRITTEN),
            (((TOKEN_KIND, "reasoning"),), AT_REASONED),
        ),
    ),
)


def error_type(code: str) -> str:
    """An error's code for spans and logs. A provider may send anything as its code: only what looks like a code is shown."""
    return code if _PLAIN_CODE.fullmatch(code) else ERROR_OTHER
