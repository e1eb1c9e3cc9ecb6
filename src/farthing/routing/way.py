"""What is left to try of a model while its deployments fail one after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from farthing.errors import FarthingError, Overloaded, UpstreamError, UpstreamRejected, UpstreamUnavailable
from farthing.routing.catalogue import Deployment

_RETRY_PAUSE_S = 0.1
_KEPT = frozenset({"budget", "context"})
"""Routes that say more than `fallback` would."""


class Way:
    """The deployments that are left, in order, further tries at the last one, and the route that the next attempt is recorded under."""

    __slots__ = ("_retries", "_tried", "left", "model", "route")

    def __init__(self, model: str, route: str, plan: Iterable[Deployment]) -> None:
        self.model = model
        self.route = route
        self.left = deque(plan)
        self._retries = self.left[-1].retries
        self._tried = 0

    def turn(self, route: str, plan: Iterable[Deployment]) -> None:
        """From now on these instead, each once."""
        self.route = route
        self.left = deque(plan)
        self._retries = 0

    def step(self, deployment: Deployment) -> str:
        """An attempt is made at a deployment: the route of it."""
        self._tried += 1
        if self.route not in _KEPT and (self._tried > 1 or deployment.model != self.model):
            self.route = "fallback"
        return self.route

    def after(self, error: FarthingError, deployment: Deployment) -> float | None:
        """In how many seconds to go on after an attempt that failed; None: there is nothing left that would help."""
        if self.left:
            return None if _nobody_else_can(error) else 0.0
        if self._retries > 0 and isinstance(error, UpstreamUnavailable) and error.upstream_status is None:  # the provider has not spoken
            self._retries -= 1
            self.left.append(deployment)
            return _RETRY_PAUSE_S * self._tried
        return None


def _nobody_else_can(error: FarthingError) -> bool:
    """Whether the request was found wrong, so that no other deployment of this model would take it."""
    return isinstance(error, UpstreamRejected) or not isinstance(error, UpstreamError | Overloaded)
