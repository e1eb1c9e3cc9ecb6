"""Dispatch: one deployment after the other until one answers, every attempt recorded, everything let go of at once when nobody waits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable

import msgspec

from farthing.errors import (
    BudgetExceeded,
    BudgetUnverified,
    FarthingError,
    Overloaded,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.pipeline.stream import Fold, has_content
from farthing.pipeline.tokens import believed, estimate
from farthing.ports import Call, Meter, Purse, Reservation
from farthing.routing.catalogue import Catalogue, Deployment
from farthing.types import Answer, Attempt, Completion, Json, Operation, Request, Source, Usage

_encode = msgspec.json.Encoder().encode
_RETRY_PAUSE_S = 0.1
_CANCELLED = 499
"""nginx's status for a client that went away; only ever seen in the ledger."""


class Dispatch:
    """The last stage. Raises the last attempt's error when no deployment answers.

    Leave to spend is asked for before each attempt, so that a fallback or a retry cannot spend what the first attempt might not. A caller
    whose budget is spent is answered by a model that costs nothing, if one is in the plan or `free_model` names one that it may use.
    """

    def __init__(self, catalogue: Catalogue, meter: Meter, purse: Purse, free_model: Callable[[FarthingError], str | None]) -> None:
        self._catalogue = catalogue
        self._meter = meter
        self._purse = purse
        self._free_model = free_model

    async def __call__(self, request: Request) -> Answer:
        """Answer a request. Nothing has gone to the client when this raises."""
        plan = deque(self._catalogue.plan(request.model))
        retries = plan[-1].retries
        number = 0
        route = "direct"
        while True:
            deployment = plan.popleft()
            try:
                held = await self._purse.reserve(request, deployment.upstream_model, deployment.price)
            except (BudgetExceeded, BudgetUnverified) as error:
                plan = self._free_ones(plan, request, error)
                route, retries = "budget", 0
                if not plan:
                    raise
                continue
            number += 1
            request.recorded = True
            if number > 1 and route == "direct":
                route = "fallback"
            attempt = _Running(self._meter, self._catalogue, request, deployment, held, number, route, last=not plan)
            try:
                return await attempt.answer()
            except (UpstreamError, Overloaded) as error:
                again = not plan and retries > 0 and _worth_another_try(error)
                final = not again and (not plan or isinstance(error, UpstreamRejected))
                attempt.fail(error, final=final)
                if final:
                    raise
                request.recorded = False  # until the next attempt is under way, an end is for `account` to record
                if again:
                    retries -= 1
                    plan.append(deployment)
                    await asyncio.sleep(_RETRY_PAUSE_S * number)
            except BaseException as error:
                attempt.fail(error, final=True)
                raise

    def _free_ones(self, plan: Iterable[Deployment], request: Request, error: FarthingError) -> deque[Deployment]:
        """What is left to try when no money is: models that cost nothing."""
        free = deque(deployment for deployment in plan if deployment.price.free)
        name = self._free_model(error)
        if not free and name is not None and name != request.model and self._catalogue.allows(name, request):
            free.extend(deployment for deployment in self._catalogue.plan(name) if deployment.price.free)
        return free


def _worth_another_try(error: FarthingError) -> bool:
    """Whether the connection failed, as opposed to the provider having spoken."""
    return isinstance(error, UpstreamUnavailable) and error.upstream_status is None


class _Running:
    """One attempt under way. Exactly one of `fail`, `_succeed` and `_stream_ended` records it."""

    def __init__(
        self,
        meter: Meter,
        catalogue: Catalogue,
        request: Request,
        deployment: Deployment,
        held: Reservation,
        number: int,
        route: str,
        *,
        last: bool,
    ) -> None:
        self._meter = meter
        self._held = held
        self._baseline = catalogue.get(request.model).deployments[0].price
        self._request = request
        self._deployment = deployment
        self._number = number
        self._last = last
        self._route = route if deployment.model == request.model or route != "direct" else "fallback"
        self._started = time.perf_counter_ns()
        self._ttft_us: int | None = None
        self._recorded = False
        self.fold = Fold()
        self.usage: Json | None = None

    async def answer(self) -> Answer:
        request, deployment = self._request, self._deployment
        call = Call(
            upstream_model=deployment.upstream_model,
            body=request.body,
            request_id=request.id,
            traceparent=request.traceparent,
            last=self._last,
            foreign=request.foreign,
        )
        if request.stream and request.operation is Operation.CHAT:
            return await self._begin_stream(call)
        if request.operation is Operation.CHAT:
            completion = await deployment.provider.chat(call)
        else:
            completion = await deployment.provider.embed(call)
        reported = Usage.of(completion.body.get("usage"))
        usage = believed(reported, request.body, _generated(completion.body))
        if reported is None:
            completion.body["usage"] = usage.as_openai()
        cost, saved = self._record(usage)
        deployment.cooldown.succeeded()
        return Answer(
            source=Source.MODEL,
            model=deployment.model,
            body=_encode(completion.body),
            completion=completion,
            cost_microusd=cost,
            saved_microusd=saved,
            route=self._route,
        )

    async def _begin_stream(self, call: Call) -> Answer:
        """Hold the stream back until it has content: up to there another deployment can take over unseen."""
        pairs = self._deployment.provider.stream(call)
        held: deque[Json] = deque()
        try:
            async for chunk, usage in pairs:
                self.usage = usage or self.usage
                if chunk is not None:
                    held.append(chunk)
                    self.fold.add(chunk)
                    if has_content(chunk):
                        break
            else:
                raise UpstreamMalformed(f"{self._deployment.provider.name} sent a stream without content")
        except BaseException:
            await pairs.aclose()
            raise
        self._ttft_us = (time.perf_counter_ns() - self._started) // 1000
        self._deployment.cooldown.succeeded()
        answer = Answer(source=Source.MODEL, model=self._deployment.model, route=self._route)
        answer.stream = _Relay(self, answer, held, pairs)
        return answer

    def stream_ended(self, answer: Answer, error: BaseException | None, *, complete: bool) -> None:
        """Record a stream, whole or broken, by the provider's usage if it came and else by a labelled estimate of what was seen."""
        reported = Usage.of(self.usage)
        usage = believed(reported, self._request.body, self.fold.text())
        answer.usage = self.usage if reported else usage.as_openai()
        if complete:
            answer.completion = Completion(body=self.fold.body(answer.usage))
        status, name = (200, None) if complete else _status_of(error, self._request.lifeline.cut_by)
        if isinstance(error, UpstreamError):
            self._deployment.cooldown.failed(error)
        answer.cost_microusd, answer.saved_microusd = self._record(usage, status=status, error=name, ended_early=not complete)

    def fail(self, error: BaseException, *, final: bool) -> None:
        """Record an attempt that gave no answer.

        A provider that was cut off in the middle, or given up on, may bill what it did: estimated unless it said. One that refused or
        could not be reached bills nothing.
        """
        if isinstance(error, UpstreamError):
            self._deployment.cooldown.failed(error)
        cut_off = isinstance(error, asyncio.CancelledError | UpstreamTimeout)
        usage = Usage.of(self.usage) or (estimate(self._request.body, self.fold.text()) if cut_off else Usage())
        status, name = _status_of(error, self._request.lifeline.cut_by)
        self._record(usage, status=status, error=name, final=final)

    def _record(
        self,
        usage: Usage,
        *,
        status: int = 200,
        error: str | None = None,
        final: bool = True,
        ended_early: bool = False,
    ) -> tuple[int, int]:
        if self._recorded:
            return 0, 0
        self._recorded = True
        deployment = self._deployment
        cost, saved = self._meter.attempt(
            self._request,
            Attempt(
                number=self._number,
                final=final,
                model_used=deployment.model,
                provider=deployment.provider.name,
                upstream_model=deployment.upstream_model,
                price=deployment.price,
                baseline=self._baseline,
                usage=usage,
                latency_us=(time.perf_counter_ns() - self._started) // 1000,
                ttft_us=self._ttft_us,
                status=status,
                error=error,
                route=self._route,
                ended_early=ended_early,
            ),
        )
        self._held.settle(usage, cost)
        return cost, saved


class _Relay:
    """The rest of a stream whose beginning was held back. See `types.ChunkStream`."""

    def __init__(
        self, attempt: _Running, answer: Answer, held: deque[Json], pairs: AsyncGenerator[tuple[Json | None, Json | None], None]
    ) -> None:
        self._attempt = attempt
        self._answer = answer
        self._held = held
        self._pairs = pairs
        self._over = False

    def __aiter__(self) -> _Relay:
        return self

    async def __anext__(self) -> Json:
        if self._held:
            return self._held.popleft()
        if self._over:
            raise StopAsyncIteration
        try:
            async for chunk, usage in self._pairs:
                self._attempt.usage = usage or self._attempt.usage
                if chunk is not None:
                    self._attempt.fold.add(chunk)
                    return chunk
        except BaseException as error:
            await self._end(error, complete=False)
            raise
        await self._end(None, complete=True)
        raise StopAsyncIteration

    async def _end(self, error: BaseException | None, *, complete: bool) -> None:
        self._over = True
        try:
            self._attempt.stream_ended(self._answer, error, complete=complete)
        finally:
            await self._pairs.aclose()

    async def aclose(self) -> None:
        """Stop the provider, and record what was used, if the stream has not ended by itself."""
        if not self._over:
            await self._end(None, complete=False)


def _status_of(error: BaseException | None, cut_by: FarthingError | None) -> tuple[int, str]:
    """What the ledger says of a failure. A cancellation is a client that went away, or ours (`cut_by`)."""
    if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit):
        error = cut_by or error
    if isinstance(error, FarthingError):
        status, fields = error.wire()
        return status, str(fields["code"] or fields["type"])
    if error is None or isinstance(error, asyncio.CancelledError | GeneratorExit):
        return _CANCELLED, "client_disconnected"
    return 500, "internal_error"


def _generated(body: Json) -> str:
    choices = body.get("choices") or []
    return "".join(str(choice["message"].get("content") or "") for choice in choices)
