"""The outermost stage: whatever happens inside, the request is in the ledger once."""

from __future__ import annotations

import asyncio

from farthing.errors import ClientGone, FarthingError
from farthing.pipeline.stage import Next
from farthing.ports import Meter
from farthing.types import Answer, Request


class Account:
    """Records what no dispatch attempt has recorded: cache hits, and requests that ended before any attempt."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    async def __call__(self, request: Request, following: Next) -> Answer:
        """See `pipeline.stage.Stage`."""
        try:
            answer = await following(request)
        except FarthingError as error:
            self._settle(request, error)
            raise
        except asyncio.CancelledError:
            self._settle(request, request.lifeline.cut_by or ClientGone("the client went away"))
            raise
        except Exception:
            self._settle(request, FarthingError("internal error"))
            raise
        if not request.recorded:
            request.recorded = True
            self._meter.outcome(request, answer, None)
        return answer

    def _settle(self, request: Request, error: FarthingError) -> None:
        if not request.recorded:
            request.recorded = True
            self._meter.outcome(request, None, error)
