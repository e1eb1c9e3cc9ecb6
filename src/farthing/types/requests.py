"""A request on its way, and its answer. See `types`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Literal, Protocol
from uuid import UUID

import msgspec

from farthing.errors import FarthingError
from farthing.types.basic import Json
from farthing.types.callers import Principal, Quota
from farthing.types.foresight import EdgeAnswer
from farthing.types.modes import DEEP, Mode
from farthing.types.prompts import Prompt


class Source(StrEnum):
    """What answered a request. `NONE`: nothing did, it ended in an error."""

    EDGE = "edge"
    EXACT = "exact"
    SEMANTIC = "semantic"
    MODEL = "model"
    NONE = "none"


class Operation(StrEnum):
    """What was asked for, in OpenTelemetry's GenAI vocabulary (`gen_ai.operation.name`)."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"


class Extras(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body field `farthing`, or the headers `x-farthing-*`."""

    cache: Literal["on", "off", "refresh"] = "on"
    namespace: str = "default"
    tags: tuple[str, ...] = ()
    user: str | None = None
    personal: bool | None = None
    memory: bool | Literal["on", "off", "facts", "facts+windows"] | None = None
    conversation_id: str | None = None
    knowledge: bool | Literal["on", "off"] | None = None
    route: str | Json | None = None
    prompt: str | None = None
    action: str | None = None
    task_type: str | None = None
    dry_run: bool = False
    store: bool = True


ANSWER = "answer"
"""The purpose of a request that somebody sent."""

CHECK = "check"
"""The purpose of a question about an answer that is held until it is answered."""


class Lifeline:
    """Who still wants the work of a task. When the last holder lets go, the task is cancelled.

    The client holds it from the start; requests that wait for the same answer hold it too, so that a client that goes away does not
    take down those who wait for what it asked for. `cut_by` is why it was cut, if it was.
    """

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self._task = task
        self._holders = 1
        self.cut_by: FarthingError | None = None

    @property
    def dropped(self) -> bool:
        """Whether nobody holds it any more."""
        return self._holders == 0

    def hold(self) -> None:
        """Join."""
        self._holders += 1

    def release(self) -> None:
        """Let go."""
        self._holders -= 1
        if self._holders == 0 and self._task is not None:
            self._task.cancel()

    def cut(self, error: FarthingError) -> None:
        """End the work although somebody waits: with this error, where somebody can be told."""
        if self.cut_by is None and self._task is not None:
            self.cut_by = error
            self._task.cancel()

    def told(self, error: asyncio.CancelledError) -> BaseException:
        """What to raise for a cancellation that came up in the task: the error that cut it, and the task goes on to tell; else itself."""
        if self.cut_by is None or self._task is None:
            return error
        self._task.uncancel()
        return self.cut_by


class Request(msgspec.Struct, kw_only=True):
    """One request on its way through the stages. Stages may replace `body`, never mutate what it holds.

    `body` is the request as the client sent it, less the field `farthing`: what we do not know passes through to the provider.
    `size` is how many bytes the body had on the wire: an upper bound for what it may cost that costs nothing to know.
    `fingerprint` changes whenever the settings map `model` to something else. `started_ns` is `time.perf_counter_ns()` at arrival.
    `recorded` says that a ledger entry for this request exists or is owed by a dispatch attempt under way, so that `account` adds none.
    `over_budget`: a soft budget of the caller is spent. `lifeline` says who still waits. `foreign`: a door translated `body` from another
    vendor's format, so that the caller never chose OpenAI's names for its fields. `purpose`: `answer`, or what we ask on our own account.
    `asked` is what the semantic cache has made of it, for when its answer is kept.
    `recalled` says what memory put into it, in short (docs/recall.md); None: it was not asked.
    `quotas` reads how the limits of the caller's key stand; None: it has none. `mode` is how much may be done for it. `choice` is which
    models answer it (`routing.choice.Choice`); None: the one that was asked for. `prompt` was put in front of the messages, in the words
    for all; `prompt_version` names it. `answer_key` is where the exact cache keeps its answer, if it does.
    """

    id: UUID
    principal: Principal
    operation: Operation
    body: Json
    size: int = 0
    model: str
    fingerprint: str = ""
    extras: Extras
    stream: bool = False
    include_usage: bool = False
    started_ns: int
    recorded: bool = False
    over_budget: bool = False
    foreign: bool = False
    purpose: str = ANSWER
    asked: Any = None
    mode: Mode = DEEP
    choice: Any = None
    prompt: Prompt | None = None
    prompt_version: str | None = None
    recalled: str | None = None
    answer_key: bytes | None = None
    traceparent: str | None = None
    lifeline: Lifeline
    quotas: Callable[[], Sequence[Quota]] | None = None

    @property
    def user(self) -> str | None:
        """On whose behalf. A key that was made for a user speaks for that user only."""
        return self.principal.user or self.extras.user


class Completion(msgspec.Struct, kw_only=True):
    """The canonical whole answer: OpenAI's response object, and the chunks it came in where it was streamed.

    `chunks` are `chat.completion.chunk` objects without the usage chunk, in order, and None for an answer that came in one piece.
    """

    body: Json
    chunks: list[Json] | None = None


class ChunkStream(Protocol):
    """`chat.completion.chunk` objects without usage, in order. `aclose` is always called, also on a stream that was never begun."""

    def __aiter__(self) -> ChunkStream:
        """Itself."""

    async def __anext__(self) -> Json:
        """The next chunk."""

    async def aclose(self) -> None:
        """Let go of everything behind the stream, the upstream connection included. A no-op the second time."""


class Answer(msgspec.Struct, kw_only=True):
    """What a stage returns: whole (`body`, encoded) or as a stream (`stream`).

    `usage`, cost and saving of a stream are set in place when it has ended. `completion` is the whole answer for
    stages that read it: from the start where there is a `body`, at its end where there is a stream. `checks` is how it stood up to the
    checks of a cascade: `passed`, or `failed:` and the name of the check; None where there were none. Of a stream that is checked to its
    end it is set by then. `edge` is what is kept of the answer to an action; None: nothing is.
    """

    source: Source
    model: str | None
    body: bytes | None = None
    completion: Completion | None = None
    stream: ChunkStream | None = None
    usage: Json | None = None
    cost_microusd: int = 0
    saved_microusd: int = 0
    route: str = "direct"
    checks: str | None = None
    edge: EdgeAnswer | None = None
