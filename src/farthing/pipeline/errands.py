"""Model calls on our own account: a new answer for a stale one, a second look at a hit, a judge's opinion.

An errand passes the stages from the account on: it is in the ledger under its purpose, within the budgets of the key on whose behalf it
is done, and among the model calls of its worker. Most are waited for by nobody; a question that a request waits for has a deadline. It
is never worth delaying anybody: when too many are under way, it is left out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec

from farthing.errors import FarthingError
from farthing.pipeline.stage import Next
from farthing.types import Answer, Json, Lifeline, Request, new_id

_log = logging.getLogger("farthing.cache")

Done = Callable[[Answer | None], None]


class Errands:
    """At most `most` are under way in one worker; further ones are `skipped`. `begin` says through what they go; before it none is sent."""

    def __init__(self, *, most: int = 16, timeout_s: float = 120.0) -> None:
        self._most = most
        self._timeout_s = timeout_s
        self._flow: Next | None = None
        self._under_way: set[asyncio.Task[Answer | None]] = set()
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
        task = asyncio.get_running_loop().create_task(self._run(self._flow, request))
        request.lifeline = Lifeline(task)
        self._under_way.add(task)
        task.add_done_callback(partial(self._ended, done))
        return True

    async def ask(self, request: Request, timeout_s: float) -> Answer | None:
        """An errand whose answer is waited for. None: there was none within `timeout_s`, for whatever reason.

        Whoever stops waiting, at the deadline or because the request was cancelled, lets go of the errand: it goes on only while another
        one waits for the same answer.
        """
        landed: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

        def done(answer: Answer | None) -> None:
            if not landed.done():
                landed.set_result(answer)

        self.send(request, done)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(landed)
        except TimeoutError:
            return None
        finally:
            if not landed.done():
                request.lifeline.release()

    async def _run(self, flow: Next, request: Request) -> Answer | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await flow(request)
        except (FarthingError, TimeoutError) as error:
            _log.debug("an errand (%s) came to nothing: %s", request.purpose, error)
            return None

    def _ended(self, done: Done, task: asyncio.Task[Answer | None]) -> None:
        self._under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("an errand failed", exc_info=error)
        done(None if task.cancelled() or error is not None else task.result())

    async def close(self) -> None:
        """Cancel what is under way, and wait for it."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def renewal(request: Request) -> Request:
    """The same request once more, for a fresh answer to keep."""
    return _again(request, cache="refresh", purpose="refresh", body=request.body)


def second_look(request: Request) -> Request:
    """The same request once more, for an answer to compare with the cached one. It is not kept."""
    return _again(request, cache="off", purpose="verify", body=request.body)


def question_to(
    model: str, body: Json, request: Request, *, purpose: str = "verify", cache: Literal["on", "off"] = "off", fingerprint: str = ""
) -> Request:
    """A question of our own to a model, on behalf of whoever sent the request. No router has a say in who answers it.

    `purpose` is its name in the ledger. With `cache` on, the exact cache may answer it; `fingerprint` is then the model's in the catalogue.
    """
    again = _again(request, cache=cache, purpose=purpose, body=body)
    extras = msgspec.structs.replace(again.extras, route="off")
    return msgspec.structs.replace(again, model=model, fingerprint=fingerprint, extras=extras, asked=None, prompt=None, prompt_version=None)


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
        choice=None,
        traceparent=None,
        lifeline=Lifeline(None),
        quotas=None,
    )
