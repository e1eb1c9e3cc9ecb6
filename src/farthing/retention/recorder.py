"""The recorder stage: for tenants that want it, what was asked and what was answered goes to the writer. Nobody waits for it."""

from __future__ import annotations

import asyncio

import msgspec

from farthing.errors import ClientGone, FarthingError
from farthing.pipeline.stage import Next
from farthing.pipeline.stream import Fold, Tee
from farthing.retention.policies import Policies
from farthing.retention.writer import Pending, TranscriptWriter
from farthing.types import Answer, Json, Operation, Request, Source

_encode = msgspec.json.Encoder().encode


class Recorder:
    """See `pipeline.stage.Stage`. A request opts out with the option `store: false`, or with OpenAI's own field of that name."""

    def __init__(self, policies: Policies, writer: TranscriptWriter) -> None:
        self._policies = policies
        self._writer = writer

    async def __call__(self, request: Request, following: Next) -> Answer:
        """Let the request through, and keep it whatever comes of it."""
        if request.principal.tenant not in self._policies or not request.extras.store or request.body.get("store") is False:
            return await following(request)
        asked = request.body
        try:
            answer = await following(request)
        except FarthingError as error:
            self._keep(request, asked, None, None, _code(error))
            raise
        except asyncio.CancelledError:
            self._keep(request, asked, None, None, _code(request.lifeline.cut_by or ClientGone("")))
            raise
        if answer.stream is not None:
            self._watch(request, asked, answer)
        else:
            vectors = request.operation is Operation.EMBEDDINGS  # no text, and large
            self._keep(request, asked, answer, None if vectors else answer.body, None)
        return answer

    def _watch(self, request: Request, asked: Json, answer: Answer) -> None:
        """Keep what a stream was when it has ended, as far as it came."""
        fold = Fold()
        stream = answer.stream
        assert stream is not None

        def ended(complete: bool) -> None:  # noqa: FBT001 - the shape of Tee's callback
            cut_by = request.lifeline.cut_by
            error = None if complete else _code(cut_by) if cut_by else "ended_early"
            self._keep(request, asked, answer, _encode(fold.body(answer.usage)), error)

        answer.stream = Tee(stream, fold.add, ended)

    def _keep(self, request: Request, asked: Json, answer: Answer | None, said: bytes | None, error: str | None) -> None:
        self._writer.put(
            Pending(
                request_id=request.id,
                tenant=request.principal.tenant,
                user_id=request.user,
                model=(answer.model if answer else None) or request.model,
                source=answer.source if answer else Source.NONE,
                arrived_ns=request.started_ns,
                request=asked,
                answer=said,
                error=error,
                size=request.size,
            )
        )


def _code(error: FarthingError) -> str:
    fields = error.wire()[1]
    return str(fields["code"] or fields["type"])
