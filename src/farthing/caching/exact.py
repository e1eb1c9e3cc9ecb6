"""The exact stage: the same request again is answered from what the first one left, and at the same time waits for it.

Followers of a request under way (single-flight) get what the leader got, as a hit. When the leader fails, or its answer may not be kept,
each follower goes its own way. A leader whose client goes away works on while someone follows it (`types.Lifeline`).

In a worse mode than the best one an answer from a better one is welcome, older ones too (`types.Mode.cache_ttl_stretch`); what is brought
then is kept for requests in that mode only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from farthing.caching.entry import Entry, Life, make_entry
from farthing.caching.keys import keys_of, temperature
from farthing.caching.memory import MemoryTier
from farthing.caching.shared import SharedTier
from farthing.pipeline.errands import Errands, renewal
from farthing.pipeline.stage import Next
from farthing.pipeline.stream import Tee
from farthing.settings import CacheSettings
from farthing.types import Answer, Completion, Json, Lifeline, Request, Source, time_of

Kept = Callable[[Request, bytes, Entry], None]


class Flight:
    """A miss under way. `landed` gets its entry, or None when there is none to share."""

    def __init__(self, lifeline: Lifeline) -> None:
        self.lifeline = lifeline
        self.landed: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()


class ExactCache:
    """See `pipeline.stage.Stage`. `kept` is told of each answer that is kept, with the request that brought it and its key.

    An answer that is stale, but not yet expired, is given once more while a new one is asked for as an errand.
    """

    def __init__(self, settings: CacheSettings, memory: MemoryTier, shared: SharedTier, errands: Errands, kept: Kept) -> None:
        self._settings = settings.exact
        self._lives = settings.namespaces
        self._memory = memory
        self._shared = shared
        self._errands = errands
        self._kept = kept
        self._flights: dict[bytes, Flight] = {}
        self._renewing: set[bytes] = set()
        self._flushed_ns = 0

    @property
    def flights(self) -> int:
        """Misses under way."""
        return len(self._flights)

    def flush(self) -> None:
        """Forget what this worker holds, of all tenants: answers were deleted. What requests under way find or bring is not kept."""
        self._flushed_ns = time.perf_counter_ns()
        self._memory.clear()

    async def __call__(self, request: Request, following: Next) -> Answer:
        """Answer from the cache, or from whoever asks the same right now, or fill the cache."""
        if request.extras.cache == "off" or temperature(request) > self._settings.max_temperature:
            return await following(request)
        *better, key = keys_of(request)
        if request.extras.cache == "refresh":
            return await self._lead(request, following, key, None)
        for best in better:
            entry = await self._better(request, best)
            if entry is not None:
                return self._hit(request, best, entry)
        entry = self._memory.get(key, request.mode.cache_ttl_stretch)
        if entry is None and key in self._flights:
            entry = await self._follow(self._flights[key])
            if entry is None:
                return await self._lead(request, following, key, None)
        if entry is not None:
            return self._hit(request, key, entry)
        flight = self._flights[key] = Flight(request.lifeline)
        return await self._lead(request, following, key, flight)

    async def stored(self, tenant: str, key: bytes, stretch: float = 1.0) -> Entry | None:
        """The answer that is kept under a key, in either tier; None when there is none, or the shared tier is away or too slow.

        `stretch` is for how many times its lifetime it may be given.
        """
        began_ns = time.perf_counter_ns()
        entry = self._memory.get(key, stretch)
        if entry is None:
            entry = await self._shared.get(tenant, key)
            if entry is not None and began_ns >= self._flushed_ns:
                self._memory.put(key, entry)
            if entry is not None and entry.good_until(stretch) <= time.time():
                return None
        return entry

    async def _better(self, request: Request, key: bytes) -> Entry | None:
        """What a better mode has left, or is about to."""
        entry = self._memory.get(key, request.mode.cache_ttl_stretch)
        if entry is None and key in self._flights:
            entry = await self._follow(self._flights[key])
        if entry is None and self._shared.has(key):
            entry = await self.stored(request.principal.tenant, key, request.mode.cache_ttl_stretch)
        return entry

    async def _follow(self, flight: Flight) -> Entry | None:
        flight.lifeline.hold()
        try:
            async with asyncio.timeout(self._settings.follow_timeout_s):
                return await asyncio.shield(flight.landed)
        except TimeoutError:
            return None
        finally:
            flight.lifeline.release()

    async def _lead(self, request: Request, following: Next, key: bytes, flight: Flight | None) -> Answer:
        request.answer_key = key
        try:
            if flight is not None and self._shared.has(key):
                entry = await self._shared.get(request.principal.tenant, key)
                if entry is not None and entry.good_until(request.mode.cache_ttl_stretch) > time.time():
                    if request.started_ns >= self._flushed_ns:
                        self._memory.put(key, entry)
                    self._land(key, flight, entry)
                    return self._hit(request, key, entry)
            answer = await following(request)
            if answer.stream is None:
                completion = answer.completion
                self._land(key, flight, self._keep(request, key, answer, completion) if completion else None)
                return answer
        except BaseException:
            self._land(key, flight, None)
            raise
        return self._watch(request, key, flight, answer)

    def _watch(self, request: Request, key: bytes, flight: Flight | None, answer: Answer) -> Answer:
        """Keep what a stream was, when it has come to its end."""
        chunks: list[Json] = []
        most = self._settings.max_chunks
        stream = answer.stream
        assert stream is not None

        def seen(chunk: Json) -> None:
            if len(chunks) <= most:
                chunks.append(chunk)

        def ended(complete: bool) -> None:  # noqa: FBT001 - the shape of Tee's callback
            whole = answer.completion
            keep = complete and whole is not None and len(chunks) <= most
            entry = self._keep(request, key, answer, Completion(body=whole.body, chunks=chunks)) if keep and whole else None
            self._land(key, flight, entry)

        answer.stream = Tee(stream, seen, ended)
        return answer

    def _keep(self, request: Request, key: bytes, answer: Answer, completion: Completion) -> Entry | None:
        if answer.checks not in {None, "passed"}:
            return None
        entry = make_entry(
            completion,
            model=answer.model or request.model,
            cost_microusd=answer.cost_microusd,
            took_us=(time.perf_counter_ns() - request.started_ns) // 1000,
            life=self._life(request.extras.namespace),
        )
        if entry is None or entry.size > self._settings.max_entry_bytes:
            return None
        if request.started_ns < self._flushed_ns:
            return entry
        self._memory.put(key, entry)
        self._shared.put(request.principal.tenant, request.extras, key, entry, request.user, time_of(request.id))
        self._kept(request, key, entry)
        return entry

    def _life(self, namespace: str) -> Life:
        own = self._lives.get(namespace)
        ttl_s = own.ttl_s if own else None
        stale_s = own.stale_s if own else None
        return Life(self._settings.ttl_s if ttl_s is None else ttl_s, self._settings.stale_s if stale_s is None else stale_s)

    def _hit(self, request: Request, key: bytes, entry: Entry) -> Answer:
        request.answer_key = key
        if entry.fresh_until < time.time() and key not in self._renewing and request.mode.rank == 0:
            self._renewing.add(key)
            self._errands.send(renewal(request), lambda _: self._renewing.discard(key))
        return entry.answer(Source.EXACT, request.id, stream=request.stream)

    def _land(self, key: bytes, flight: Flight | None, entry: Entry | None) -> None:
        if flight is None:
            return
        if self._flights.get(key) is flight:
            del self._flights[key]
        if not flight.landed.done():
            flight.landed.set_result(entry)
