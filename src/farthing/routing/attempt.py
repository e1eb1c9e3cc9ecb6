"""One attempt at one deployment: what it gave, what it used, and how it is recorded."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

import msgspec

from farthing.errors import FarthingError, UpstreamError, UpstreamMalformed, UpstreamTimeout
from farthing.pipeline.stream import Fold, Replayed, has_content
from farthing.pipeline.tokens import believed, estimate
from farthing.ports import Call, Meter, Reservation
from farthing.routing.catalogue import Deployment
from farthing.routing.checks.confidence import without_logprobs
from farthing.types import HEDGE_LOST, Answer, Attempt, Completion, Json, Operation, Price, Request, Source, Usage

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_CANCELLED = 499
"""nginx's status for a client that went away; only ever seen in the ledger."""

Pairs = AsyncGenerator[tuple[Json | None, Json | None], None]
Ending = Callable[[], Awaitable[str | None]]
"""What the checks say of a stream that is at its end: see `types.Answer.checks`."""


class Course:
    """What has been done for a request so far. `surplus`: micro-dollars for answers that were not given."""

    __slots__ = ("baseline", "number", "request", "surplus")

    def __init__(self, request: Request, baseline: Price) -> None:
        self.request = request
        self.baseline = baseline
        self.number = 0
        self.surplus = 0


class Running:
    """One attempt under way. `begin` first; then exactly one of `give`, `reject`, `lose` and `fail` records it.

    A stream that was begun is read on with `read`, or goes to the client as it comes: then it is recorded at its end.
    `hides_logprobs`: a check wanted the log-probabilities that come with the answer, and the client did not ask for them.
    """

    def __init__(
        self,
        meter: Meter,
        course: Course,
        deployment: Deployment,
        held: Reservation,
        route: str,
        body: Json,
        *,
        hides_logprobs: bool = False,
    ) -> None:
        course.number += 1
        self.request = course.request
        self.deployment = deployment
        self.route = route
        self.sent = body
        self._hides_logprobs = hides_logprobs
        self.fold = Fold()
        self.completion: Completion | None = None
        self.held: deque[Json | bytes] = deque()
        self.held_bytes = 0
        self.ended = False
        self._course = course
        self._meter = meter
        self._reservation = held
        self._number = course.number
        self._started = time.perf_counter_ns()
        self._ttft_us: int | None = None
        self.recorded = False
        self.usage: Json | None = None
        self._reported: Usage | None = None
        self.pairs: Pairs | None = None

    @property
    def whole(self) -> bool:
        """Whether all of the answer is here."""
        return self.ended or self.completion is not None

    async def begin(self, *, last: bool) -> None:
        """Ask. Returns when there is a whole answer, or a stream that has content: up to there another deployment takes over unseen."""
        request, deployment = self.request, self.deployment
        call = Call(
            upstream_model=deployment.upstream_model,
            body=self.sent,
            request_id=request.id,
            traceparent=request.traceparent,
            last=last,
            foreign=request.foreign,
        )
        if request.operation is not Operation.CHAT:
            self.completion = await deployment.provider.embed(call)
        elif request.stream:
            await self._begin_stream(deployment.provider.stream(call))
        else:
            self.completion = await deployment.provider.chat(call)
        if self.completion is not None:
            self.usage = self.completion.body.get("usage")
        deployment.cooldown.succeeded()

    async def _begin_stream(self, pairs: Pairs) -> None:
        try:
            async for chunk, usage in pairs:
                self.usage = usage or self.usage
                if chunk is not None:
                    self.held.append(self.shown(chunk))
                    self.fold.add(chunk)
                    if has_content(chunk):
                        break
            else:
                raise UpstreamMalformed(f"{self.deployment.provider.name} sent a stream without content")
        except BaseException:
            await pairs.aclose()
            raise
        self.pairs = pairs
        self._ttft_us = (time.perf_counter_ns() - self._started) // 1000

    @property
    def begun(self) -> Pairs:
        """The stream, once it is begun."""
        assert self.pairs is not None
        return self.pairs

    async def read(self) -> Json | None:
        """The next chunk of the stream; None at its end. Raises what the provider raises."""
        async for chunk, usage in self.begun:
            self.usage = usage or self.usage
            if chunk is not None:
                self.fold.add(chunk)
                return self.shown(chunk)
        self.ended = True
        return None

    def hold(self, chunk: Json) -> None:
        """Keep a chunk that was read for when the stream is released: as text, which is a tenth of what it takes in memory otherwise."""
        data = _encode(chunk)
        self.held_bytes += len(data)
        self.held.append(data)

    async def close(self) -> None:
        """Let go of the provider. A no-op when it is done, or was never begun."""
        if self.pairs is not None:
            await self.pairs.aclose()

    def body(self) -> Json:
        """What of the answer is here, as a `chat.completion` object."""
        return self.fold.body(self.usage) if self.completion is None else self.completion.body

    def shown(self, body: Json) -> Json:
        """An answer, or a chunk of one, as the client is to see it."""
        return without_logprobs(body) if self._hides_logprobs else body

    def give(self, checks: str | None, ending: Ending | None = None) -> Answer:
        """What goes to the client. Recorded now if all of it is here, else when it has ended; `ending` is asked before that."""
        if not self.whole:
            answer = self._answer(checks)
            answer.stream = _Relay(self, answer, ending)
            return answer
        try:
            usage = self._used(may_bill=True)
            cost, saved = self._record(usage, checks=checks)
            return self.answer(checks, usage, cost, saved)
        except BaseException as error:
            self.fail(error, final=True)
            raise

    def reject(self, checks: str) -> Rejected:
        """Record an answer that is not given, or not yet. The request is open again."""
        usage = self._used(may_bill=True)
        cost, saved = self._record(usage, checks=checks, final=False)
        self._course.surplus += cost
        self.request.recorded = False
        return Rejected(attempt=self, checks=checks, usage=usage, worth=cost + saved)

    def lose(self) -> None:
        """Record an attempt that was cut off because another one, made beside it, was faster."""
        cost, _ = self._record(self._used(may_bill=True), status=_CANCELLED, error=HEDGE_LOST, final=False)
        self._course.surplus += cost

    def fail(self, error: BaseException, *, final: bool) -> None:
        """Record an attempt that gave no answer.

        A provider that was cut off in the middle, or given up on, may bill what it did: estimated unless it said. One that refused or
        could not be reached bills nothing.
        """
        if isinstance(error, UpstreamError):
            self.deployment.cooldown.failed(error)
        status, name = _status_of(error, self.request.lifeline.cut_by)
        usage = self._used(may_bill=isinstance(error, asyncio.CancelledError | UpstreamTimeout))
        self._record(usage, status=status, error=name, final=final)

    def stream_ended(self, answer: Answer, error: BaseException | None, *, complete: bool) -> None:
        """Record a stream, whole or broken, by the provider's usage if it came and else by a labelled estimate of what was seen."""
        usage = self._used(may_bill=True)
        answer.usage = self.usage if self._reported else usage.as_openai()
        if complete:
            answer.completion = Completion(body=self.shown(self.fold.body(answer.usage)))
        status, name = (200, None) if complete else _status_of(error, self.request.lifeline.cut_by)
        if isinstance(error, UpstreamError):
            self.deployment.cooldown.failed(error)
        cost, saved = self._record(usage, status=status, error=name, ended_early=not complete, checks=answer.checks)
        answer.cost_microusd, answer.saved_microusd = self._course.surplus + cost, saved - self._course.surplus

    def answer(self, checks: str | None, usage: Usage, cost: int, saved: int) -> Answer:
        """The whole answer, which cost and saved so much beside what was spent for others that were not given."""
        answer = self._answer(checks)
        answer.cost_microusd, answer.saved_microusd = self._course.surplus + cost, saved - self._course.surplus
        if self.completion is None:
            answer.usage = self.usage if self._reported else usage.as_openai()
            answer.completion = Completion(body=self.shown(self.fold.body(answer.usage)))
            answer.stream = Replayed(_chunks(self.held))
            return answer
        if self._reported is None:
            self.completion.body["usage"] = usage.as_openai()
        if self._hides_logprobs:
            self.completion = msgspec.structs.replace(self.completion, body=self.shown(self.completion.body))
        answer.body = _encode(self.completion.body)
        answer.completion = self.completion
        return answer

    def _answer(self, checks: str | None) -> Answer:
        return Answer(source=Source.MODEL, model=self.deployment.model, route=self.route, checks=checks)

    def _used(self, *, may_bill: bool) -> Usage:
        """What the provider counted, or else (if it may bill, or something was generated) a guess."""
        reported = self._reported = Usage.of(self.usage)
        text = self.fold.text() if self.completion is None else _generated(self.completion.body)
        if text or self.whole or self.pairs is not None:
            return believed(reported, self.sent, text)
        return reported or (estimate(self.sent, "") if may_bill else Usage())

    def _record(
        self,
        usage: Usage,
        *,
        status: int = 200,
        error: str | None = None,
        final: bool = True,
        ended_early: bool = False,
        checks: str | None = None,
    ) -> tuple[int, int]:
        if self.recorded:
            return 0, 0
        self.recorded = True
        deployment = self.deployment
        cost, saved = self._meter.attempt(
            self.request,
            Attempt(
                number=self._number,
                final=final,
                model_used=deployment.model,
                provider=deployment.provider.name,
                upstream_model=deployment.upstream_model,
                price=deployment.price,
                baseline=self._course.baseline,
                usage=usage,
                latency_us=(time.perf_counter_ns() - self._started) // 1000,
                ttft_us=self._ttft_us,
                status=status,
                error=error,
                route=self.route,
                checks=checks,
                ended_early=ended_early,
            ),
        )
        self._reservation.settle(usage, cost)
        return cost, saved


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt whose answer did not pass, and is recorded. `worth`: what the baseline would have cost for it, in micro-dollars."""

    attempt: Running
    checks: str
    usage: Usage
    worth: int

    def answer(self) -> Answer:
        """Its answer, to be given after all; the request is not settled by that."""
        return self.attempt.answer(self.checks, self.usage, 0, self.worth)


class _Relay:
    """The rest of a stream whose beginning was held back. See `types.ChunkStream`."""

    def __init__(self, attempt: Running, answer: Answer, ending: Ending | None) -> None:
        self._attempt = attempt
        self._answer = answer
        self._pairs = attempt.begun
        self._held = attempt.held
        self._ending = ending
        self._over = False

    def __aiter__(self) -> _Relay:
        return self

    async def __anext__(self) -> Json:
        if self._held:
            return _chunk(self._held.popleft())
        if self._over:
            raise StopAsyncIteration
        attempt = self._attempt
        try:
            async for chunk, usage in self._pairs:
                attempt.usage = usage or attempt.usage
                if chunk is not None:
                    attempt.fold.add(chunk)
                    return attempt.shown(chunk)
            if self._ending is not None:
                self._answer.checks = await self._ending()
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
            await self._attempt.close()

    async def aclose(self) -> None:
        """Stop the provider, and record what was used, if the stream has not ended by itself."""
        if not self._over:
            await self._end(None, complete=False)


def _chunk(held: Json | bytes) -> Json:
    chunk: Json = _decode(held) if isinstance(held, bytes) else held
    return chunk


def _chunks(held: deque[Json | bytes]) -> Iterator[Json]:
    while held:
        yield _chunk(held.popleft())


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
