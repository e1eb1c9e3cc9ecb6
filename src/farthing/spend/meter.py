"""The meter: what happened, as money and as ledger entries."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from farthing.errors import FarthingError
from farthing.ports import Ledger
from farthing.spend.prices import cost
from farthing.types import ANONYMOUS, ANSWER, DEEP, Answer, Attempt, LedgerEntry, Request, Source, new_id

_LONGEST_TEXT = 256

Observer = Callable[[LedgerEntry, Request], None]


class LedgerMeter:
    """Writes each attempt and outcome to the ledger and shows it to the observers (telemetry). See `ports.Meter`.

    `worker` says whose leases an entry settles (see `spend.leases`).
    Refused requests without a valid key are written down at most `anonymous_per_minute` times a minute; observers see them all.
    """

    def __init__(self, ledger: Ledger, observers: Sequence[Observer], *, worker: str = "", anonymous_per_minute: int) -> None:
        self._ledger = ledger
        self._worker = worker
        self._observers = observers
        self._anonymous_per_minute = anonymous_per_minute
        self._minute = 0
        self._anonymous = 0

    def attempt(self, request: Request, attempt: Attempt) -> tuple[int, int]:
        """See `ports.Meter.attempt`."""
        usage, price = attempt.usage, attempt.price
        spent = cost(price, usage)
        baseline = spent if attempt.baseline == price else cost(attempt.baseline, usage)
        asked = request.purpose == ANSWER
        if not asked:
            baseline = 0  # without Farthing nobody would have called a model for this
        saved = baseline - spent if attempt.error is None else 0
        surplus = attempt.surplus
        entry = self._entry(
            request,
            attempt=attempt.number,
            final=attempt.final and asked,
            source=Source.MODEL if attempt.error is None or attempt.ended_early else Source.NONE,
            model_used=attempt.model_used,
            provider=attempt.provider,
            upstream_model=attempt.upstream_model,
            route=attempt.route,
            tokens_in=usage.input,
            tokens_out=usage.output,
            tokens_cache_read=usage.cache_read,
            tokens_cache_write=usage.cache_write,
            tokens_reasoning=usage.reasoning,
            usage_source=usage.source,
            price_in_microusd_per_1m=price.input,
            price_out_microusd_per_1m=price.output,
            price_source=price.source,
            cost_microusd=spent,
            baseline_microusd=0 if surplus else baseline,
            saved_microusd=-spent if surplus else saved,
            latency_us=attempt.latency_us,
            ttft_us=attempt.ttft_us,
            status=attempt.status,
            error=_bounded(attempt.error),
            worker=self._worker if spent and self._worker else None,
            checks=_bounded(attempt.checks),
            answer_key=_answer_key(request) if attempt.final and attempt.error is None else None,
        )
        self._keep(entry, request)
        return spent, saved

    def outcome(self, request: Request, answer: Answer | None, error: FarthingError | None) -> None:
        """See `ports.Meter.outcome`."""
        status, fields = error.wire() if error else (200, {})
        asked = request.purpose == ANSWER
        saved = answer.saved_microusd if answer and asked else 0
        entry = self._entry(
            request,
            attempt=0,
            final=asked,
            source=answer.source if answer else Source.NONE,
            model_used=answer.model if answer else None,
            provider=None,
            upstream_model=None,
            route=answer.route if answer and answer.source is Source.MODEL else None,
            baseline_microusd=saved,
            saved_microusd=saved,
            latency_us=(time.perf_counter_ns() - request.started_ns) // 1000,
            status=status,
            error=_bounded(str(fields.get("code") or fields.get("type"))) if error else None,
            checks=_bounded(answer.checks) if answer else None,
            answer_key=_answer_key(request) if answer and answer.source is Source.EXACT else None,
        )
        self._keep(entry, request)

    def _entry(self, request: Request, **facts: object) -> LedgerEntry:
        who = request.principal
        anonymous = who is ANONYMOUS
        return LedgerEntry(
            id=new_id(),
            request_id=request.id,
            tenant=who.tenant,
            key_id=None if anonymous else who.key_id,
            user_id=_bounded(request.user),
            tier=who.tier,
            operation=request.operation,
            purpose=request.purpose,
            model_asked=_bounded(request.model or None),
            prompt_version=request.prompt_version,
            mode=None if request.mode is DEEP else request.mode.name,
            task_type=_bounded(request.extras.task_type),
            memory=_bounded(request.recalled),
            stream=request.stream,
            **facts,  # type: ignore[arg-type]  # the callers name the fields
        )

    def _keep(self, entry: LedgerEntry, request: Request) -> None:
        for observer in self._observers:
            observer(entry, request)
        if request.principal is ANONYMOUS and not self._room_for_anonymous():
            return
        self._ledger.record(entry)

    def _room_for_anonymous(self) -> bool:
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._anonymous = minute, 0
        self._anonymous += 1
        return self._anonymous <= self._anonymous_per_minute


def _answer_key(request: Request) -> str | None:
    return request.answer_key.hex() if request.answer_key is not None and request.purpose == ANSWER else None


def _bounded(text: str | None) -> str | None:
    """What a caller or a provider named, as the ledger can hold it: short, and without NUL, which PostgreSQL's text does not know."""
    return text if text is None or (len(text) <= _LONGEST_TEXT and "\0" not in text) else text.replace("\0", "")[:_LONGEST_TEXT]
