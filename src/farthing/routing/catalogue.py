"""The model catalogue: names that callers use, the deployments behind them, and which of those are left alone for a while."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence

import msgspec

from farthing.errors import ModelNotFound, NotAllowed, UpstreamError, UpstreamRateLimited, UpstreamRejected
from farthing.ports import Provider
from farthing.routing.hedging import Hedge
from farthing.settings.shaping import ParameterSettings
from farthing.types import Operation, Price, Principal, Request

_LONGEST_COOLDOWN_S = 600.0


class Cooldown:
    """Leaves a deployment alone after failures in a row, or for as long as a 429 asked."""

    def __init__(self, failures: int, seconds: float, now: Callable[[], float]) -> None:
        self._limit = failures
        self._seconds = seconds
        self._now = now
        self._failures = 0
        self._until = 0.0

    @property
    def active(self) -> bool:
        """Whether to turn elsewhere, if there is anywhere to turn."""
        return self._until > self._now()

    def succeeded(self) -> None:
        """Forget earlier failures."""
        self._failures = 0
        self._until = 0.0

    def failed(self, error: UpstreamError) -> None:
        """Count a failure. A request that the provider rejected says nothing about the provider."""
        if isinstance(error, UpstreamRejected):
            return
        self._failures += 1
        if isinstance(error, UpstreamRateLimited) and error.retry_after_s:
            self._until = self._now() + min(error.retry_after_s, _LONGEST_COOLDOWN_S)
        elif self._failures >= self._limit:
            self._until = self._now() + self._seconds


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One way to reach a model. `retries` counts further attempts here when there is nowhere else to turn.

    `family` says which variant of a prompt it gets; None: the one for all.
    """

    model: str
    provider: Provider
    upstream_model: str
    weight: int
    price: Price
    retries: int
    cooldown: Cooldown
    family: str | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A name in the catalogue. `fallbacks` are names of others, tried in order when all deployments of this one have failed.

    `hedge`: when it is asked twice at the same time; None: never.
    `context_fallbacks` are names of others for requests that are too long for this one (see `fitting`). `parameters` says what is sent
    instead of what the caller sent (see `shaping`); None: nothing is.
    """

    name: str
    operation: Operation
    deployments: tuple[Deployment, ...]
    fallbacks: tuple[str, ...] = ()
    context_tokens: int | None = None
    context_fallbacks: tuple[str, ...] = ()
    parameters: ParameterSettings | None = None
    tags: tuple[str, ...] = ()
    hedge: Hedge | None = None
    owner: str = "farthing"

    @property
    def fingerprint(self) -> str:
        """Changes when the name comes to mean another upstream model."""
        parts = sorted(f"{d.provider.name}\n{d.upstream_model}" for d in self.deployments)
        return hashlib.sha256("\n\n".join(parts).encode()).hexdigest()[:16]


class RouterName(msgspec.Struct, frozen=True, kw_only=True):
    """A name that stands for a choice among models. `models` are all that have a part in it; `digest` changes with its settings."""

    name: str
    models: tuple[str, ...]
    digest: bytes
    owner: str = "farthing"


class Catalogue:
    """All models, and the names of routers. Immutable but for the cooldowns of its deployments."""

    def __init__(self, models: Sequence[Model], rng: random.Random, routers: Sequence[RouterName] = ()) -> None:
        self._models: Mapping[str, Model] = {model.name: model for model in models}
        self._routers: Mapping[str, RouterName] = {router.name: router for router in routers}
        self._fingerprints = {model.name: model.fingerprint for model in models}
        self._fingerprints |= {router.name: self._fingerprint(router) for router in routers}
        self._rng = rng

    def _fingerprint(self, router: RouterName) -> str:
        parts = [router.digest, *(f"\n{name}\n{self._fingerprints[name]}".encode() for name in router.models)]
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]

    def admit(self, name: str, principal: Principal, operation: Operation) -> str:
        """The fingerprint of a model or router that this caller may use for this. Raises `ModelNotFound` or `NotAllowed`."""
        model = self._models.get(name)
        there = model.operation is operation if model else name in self._routers and operation is Operation.CHAT
        if not there:
            names = ", ".join(self.names(principal, operation)) or "none"
            known = f"is not for {operation}" if model or name in self._routers else "does not exist"
            raise ModelNotFound(f"The model {name[:128]!r} {known}. Models for {operation}: {names}.", param="model")
        if principal.models is not None and name not in principal.models:
            raise NotAllowed(f"This key may not use the model {name!r}. It may use: {', '.join(sorted(principal.models))}.", param="model")
        return self._fingerprints[name]

    def visible(self, principal: Principal) -> list[Model]:
        """The models that this caller may use, in the order of the settings."""
        return [m for m in self._models.values() if principal.models is None or m.name in principal.models]

    def routers(self, principal: Principal) -> list[RouterName]:
        """The routers that this caller may use, in the order of the settings. Whoever may use one may be answered by all its models."""
        return [r for r in self._routers.values() if principal.models is None or r.name in principal.models]

    def names(self, principal: Principal, operation: Operation) -> list[str]:
        """What this caller may ask for: models, then routers."""
        models = [model.name for model in self.visible(principal) if model.operation is operation]
        return models + ([router.name for router in self.routers(principal)] if operation is Operation.CHAT else [])

    def fingerprint(self, name: str) -> str:
        """Of a model or router that there is."""
        return self._fingerprints[name]

    def allows(self, name: str, request: Request) -> bool:
        """Whether a request may be answered by this model instead of the one it asked for."""
        model = self._models.get(name)
        allowed = request.principal.models
        return model is not None and model.operation is request.operation and (allowed is None or name in allowed)

    def get(self, name: str) -> Model:
        """The model of an admitted request."""
        return self._models[name]

    def find(self, name: str) -> Model | None:
        """The model of that name; None for a router's, and for any other."""
        return self._models.get(name)

    def plan(self, name: str) -> list[Deployment]:
        """Deployments in the order to try them.

        The model's own, drawn by weight; then those of its fallbacks; those in cooldown last of all, because a bad chance is better
        than none.
        """
        model = self._models[name]
        if len(model.deployments) == 1 and not model.fallbacks:
            return [model.deployments[0]]
        order = self._drawn(model.deployments)
        for fallback in model.fallbacks:
            order += self._drawn(self._models[fallback].deployments)
        return [d for d in order if not d.cooldown.active] + [d for d in order if d.cooldown.active]

    def _drawn(self, deployments: Sequence[Deployment]) -> list[Deployment]:
        """A weighted random order without replacement (Efraimidis and Spirakis, 2006: sort by u^(1/w)); weight 0 comes last."""
        return sorted(deployments, key=lambda d: self._rng.random() ** (1 / d.weight) if d.weight else -1.0, reverse=True)
