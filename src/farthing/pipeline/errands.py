"""Model calls of our own: a new answer for a stale one, a second look at a hit, a judge's opinion.

An errand passes the stages from the account on: it is in the ledger under its purpose, within the budgets of the key on whose behalf it
is done, and among the model calls of its worker. Most are waited for by nobody, and never worth delaying anybody: when too many are under
way, further ones are left out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from farthing.errors import FarthingError
from farthing.pipeline.stage import Next
from farthing.types import Answer, Json, Lifeline, Request, new_id

_log = logging.getLogger("farthing.cache")

Done = Callable[[Answer | None], None]


class Errands:
    """At most `most` are under way in one worker, and as many as `most_asked` that are waited for; further ones are `skipped`.

    `begin` says through what they go; before it none is sent.
    """

    def __init__(self, *, most: int = 16, most_asked: int = 256, timeout_s: float = 120.0) -> None:
        self._most = most
        self._most_asked = most_asked
        self._timeout_s = timeout_s
        self._flow: Next | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._asked: set[asyncio.Task[None]] = set()
        self.skipped = 0

    def begin(self, flow: Next) -> None:
        """From now on errands go this way."""
        self._flow = flow

    def send(self, request: Request, done: Done) -> bool:
        """Begin an errand. `done` gets its answer, or None when there was none; it is called in any case. False: left out."""
        if self._flow is None or len(self._under_way) >= self._most:
            self.skipped += 1
            done(None)
            return False
        self._under_way.add(asyncio.get_running_loop().create_task(self._run(self._flow, request, done)))
        return True

    async def ask(self, request: Request, *, timeout_s: float) -> Answer | None:
        """The answer to an errand that is waited for. None when there was none in time, or it was left out.

        Who waits may be cancelled, or lose patience: then the errand is cancelled too.
        """
        if self._flow is None or len(self._asked) >= self._most_asked:
            self.skipped += 1
            return None
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[Answer | None] = loop.create_future()

        def done(answer: Answer | None) -> None:
            if not landed.done():
                landed.set_result(answer)

        task = loop.create_task(self._run(self._flow, request, done))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        try:
            async with asyncio.timeout(timeout_s):
                return await landed
        except TimeoutError:
            return None
        finally:
            task.cancel()

    async def _run(self, flow: Next, request: Request, done: Done) -> None:
        answer = None
        task = asyncio.current_task()
        assert task is not None
        request.lifeline = Lifeline(task)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await flow(request)
        except (FarthingError, TimeoutError) as error:
            _log.debug("an errand (%s) came to nothing: %s", request.purpose, error)
        finally:
            self._under_way.discard(task)
            done(answer)

    async def close(self) -> None:
        """Cancel what is under way, and wait for it."""
        tasks = [*self._under_way, *self._asked]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def renewal(request: Request) -> Request:
    """The same request once more, for a fresh answer to keep."""
    return _again(request, cache="refresh", purpose="refresh", body=request.body)


def second_look(request: Request) -> Request:
    """The same request once more, for an answer to compare with the cached one. It is not kept."""
    return _again(request, cache="off", purpose="verify", body=request.body)


def question_to(model: str, body: Json, request: Request, *, purpose: str = "verify") -> Request:
    """A question of our own to a model, and to no other one, on behalf of whoever sent the request."""
    errand = _again(request, cache="off", purpose=purpose, body=body)
    return msgspec.structs.replace(
        errand, model=model, fingerprint="", choice=None, extras=msgspec.structs.replace(errand.extras, route="off")
    )


def _again(request: Request, *, cache: str, purpose: str, body: Json) -> Request:
    return msgspec.structs.replace(
        request,
        id=new_id(),
        body={name: value for name, value in body.items() if name not in {"stream", "stream_options"}},
        extras=msgspec.structs.replace(request.extras, cache=cache),
        stream=False,
        include_usage=False,
        started_ns=time.perf_counter_ns(),
        recorded=False,
        over_budget=False,
        purpose=purpose,
        traceparent=None,
        lifeline=Lifeline(None),
        quotas=None,
    )
