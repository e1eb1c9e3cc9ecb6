"""The map: what a request passes, in this order."""

from __future__ import annotations

import msgspec

from farthing.caching.exact import ExactCache
from farthing.pipeline.stage import Next, Stage, compose
from farthing.routing.dispatch import Dispatch
from farthing.spend.account import Account


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The stages, built by `app`. A stage that the settings turn off is None."""

    account: Account
    exact: ExactCache | None
    dispatch: Dispatch


def request_flow(parts: Parts) -> Next:
    """Put the stages together.

    `account` wraps all, so that each request is in the ledger once, whatever happens. The cache answers before anything is paid for.
    `dispatch` owns attempts, fallback and cancellation.
    """
    stages: list[Stage | None] = [
        parts.account,
        parts.exact,
    ]
    return compose([stage for stage in stages if stage is not None], parts.dispatch)
