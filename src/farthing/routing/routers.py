"""Routers by name, and which of them a request is for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from farthing.errors import InvalidRequest, NotAllowed
from farthing.routing.catalogue import Catalogue
from farthing.routing.checks.check import Check
from farthing.routing.options import NONE, PARAM, RouteOptions, read_options
from farthing.routing.reading import Reading
from farthing.routing.route_judge import RouteJudge
from farthing.routing.rules import Rule, outside
from farthing.settings import nearest
from farthing.types import Operation, Principal, Request, utc_now

_encode = msgspec.json.Encoder(order="deterministic").encode

ChecksOf = Callable[[Any], tuple[Check, ...]]
"""The checks that a request describes. Raises `InvalidRequest`."""


class Router(msgspec.Struct, frozen=True, kw_only=True):
    """A router, ready to decide. `models` are its candidates, the weakest first; `otherwise` is what is done when no rule decides.

    `cascade` are the models of its cascade in order, empty where it has none; `checks` are what they must pass. `quality` is what the
    learned part keeps to unless a request says; None: it has no learned part.
    """

    name: str
    models: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    otherwise: str
    default: str
    judge: RouteJudge | None = None
    cascade: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    quality: float | None = None


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """The router that decides on a request, what the request says of it, and the model that would have answered without."""

    router: Router
    options: RouteOptions
    baseline: str


class Routers:
    """All of them. `replace` names the router that is asked in the place of a model."""

    def __init__(self, routers: Sequence[Router], replace: Mapping[str, str], catalogue: Catalogue, checks_of: ChecksOf) -> None:
        self._routers = {router.name: router for router in routers}
        self._replace = replace
        self._catalogue = catalogue
        self._checks_of = checks_of

    def admit(self, request: Request) -> str:
        """The fingerprint of all that a request's answer hangs on beside its words: what it asks for, and what its router looks at.

        Raises `ModelNotFound`, `NotAllowed` (also for a router that the key may not use), or `InvalidRequest` for options that are wrong.
        """
        fingerprint = self._catalogue.admit(request.model, request.principal, request.operation)
        route = self.route_of(request)
        if route is None:
            return fingerprint
        router, options = route.router, route.options
        self.checks_of(options)
        reading = Reading(request, utc_now)
        facts = [holds(reading) for holds in outside(router.rules)]
        said = (options.quality, sorted(set(options.models or ())), options.max_microusd, options.checks)
        parts = (fingerprint, router.name, self._catalogue.fingerprint(router.name), facts, said)
        return hashlib.sha256(_encode(parts)).hexdigest()[:16]

    def route_of(self, request: Request) -> Route | None:
        """Who decides on an admitted request; None: it goes to the model that it names."""
        if request.extras.route is None and request.model not in self._routers and request.model not in self._replace:
            return None
        return self._resolved(request)

    def checks_of(self, options: RouteOptions) -> tuple[Check, ...]:
        """The checks that a request brought."""
        return self._checks_of(options.checks) if options.checks else ()

    def _resolved(self, request: Request) -> Route | None:
        name = request.model
        if request.operation is not Operation.CHAT:
            raise InvalidRequest(f"{PARAM}: routers choose among chat models; nothing routes {request.operation}", param=PARAM)
        options = read_options(request.extras.route)
        if options.off:
            if name in self._routers:
                raise InvalidRequest(f"{PARAM}: 'off' needs the name of a model; {name!r} is a router", param=PARAM)
            return None
        chosen = self._chosen(name, request.principal, options)
        if chosen is None:
            return None
        router = self._routers[chosen]
        _check(options, router)
        return Route(router=router, options=options, baseline=router.default if name in self._routers else name)

    def _chosen(self, name: str, principal: Principal, options: RouteOptions) -> str | None:
        """The name of the router. One that is asked in a model's place must be open to the key as if it had been named."""
        if options.router is not None:
            if options.router not in self._routers:
                known = {router.name for router in self._catalogue.routers(principal)} | {"off"}
                raise InvalidRequest(f"{PARAM}: there is no router {options.router[:128]!r}{nearest(options.router, known)}", param=PARAM)
            if principal.models is not None and options.router not in principal.models:
                raise NotAllowed(f"This key may not use the router {options.router!r}.", param=PARAM)
            return options.router
        if name in self._routers:
            return name
        replaced = self._replace.get(name)
        if replaced is not None and (principal.models is None or replaced in principal.models):
            return replaced
        if options != NONE:
            raise InvalidRequest(f"{PARAM}: {name!r} is a model and no router; name one in {PARAM}.router", param=PARAM)
        return None


def _check(options: RouteOptions, router: Router) -> None:
    """Raise `InvalidRequest` for options that this router can do nothing with."""
    for model in options.models or ():
        if model not in router.models:
            hint = nearest(model, set(router.models))
            raise InvalidRequest(f"{PARAM}.models: {model[:128]!r} is not a candidate of {router.name!r}{hint}", param=PARAM)
    if options.quality is not None and router.quality is None:
        raise InvalidRequest(f"{PARAM}.quality: the router {router.name!r} has no learned part that could keep to it", param=PARAM)
