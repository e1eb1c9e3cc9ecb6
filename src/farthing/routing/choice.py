"""What the route stage has decided for a request."""

from __future__ import annotations

import msgspec

from farthing.routing.checks.check import Check


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which models answer a request, in order: the next one when the answer of one does not pass the checks. Catalogue names, at least one.

    `route` is the label that the ledger and `x-farthing-route` carry (`rule:NAME`, `judge:CLASS`, `learned`, `default`, `context`,
    `mode:NAME`, …; at most 64 characters). `reason` is for people who ask why. `baseline` is the model that would have answered without
    Farthing: savings are counted against its price. `checks` are done on the answer of each model, in order; the best answer so far is
    given, and marked, when none passes. `router` is the name of the router that decided; None: none did.
    """

    models: tuple[str, ...]
    route: str = "direct"
    reason: str = ""
    baseline: str
    checks: tuple[Check, ...] = ()
    router: str | None = None


def direct(model: str) -> Choice:
    """The model that was asked for, and nothing else."""
    return Choice(models=(model,), baseline=model)
