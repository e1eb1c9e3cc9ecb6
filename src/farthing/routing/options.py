"""What a request says of its own routing: the extra `farthing.route`."""

from __future__ import annotations

import difflib
from decimal import Decimal
from typing import Annotated, Any

import msgspec

from farthing.errors import InvalidRequest
from farthing.types import Json

PARAM = "farthing.route"
OFF = "off"
_MOST_MODELS = 32
_MOST_CHECKS = 8
_MILLION = 1_000_000


class RouteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be said.

    `router` decides instead of the one that would; `models` are the only candidates; none may be estimated to cost more than
    `max_cost_usd`; `quality` is for the learned router; `checks` are done on top of the router's own. `off`: no router decides.
    """

    off: bool = False
    router: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | None = None
    quality: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    models: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=_MOST_MODELS)] | None = None
    max_cost_usd: Decimal | None = None
    checks: Annotated[list[Json], msgspec.Meta(max_length=_MOST_CHECKS)] | None = None

    @property
    def max_microusd(self) -> int | None:
        """`max_cost_usd` in micro-dollars, rounded down."""
        return None if self.max_cost_usd is None else int(self.max_cost_usd * _MILLION)


NONE = RouteOptions()
_OFF = RouteOptions(off=True)
_KNOWN = tuple(name for name in RouteOptions.__struct_fields__ if name != "off")


def read_options(route: str | Json | None) -> RouteOptions:
    """The options in `farthing.route`. Raises `InvalidRequest` that names what is wrong. Names are not looked up yet."""
    if route is None:
        return NONE
    if isinstance(route, str):
        return _OFF if route == OFF else RouteOptions(router=route)
    for name in route:
        if name not in _KNOWN:
            close = difflib.get_close_matches(name[:64], _KNOWN, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(_KNOWN)}"
            raise InvalidRequest(f"{PARAM}.{name[:64]}: there is no such option; {hint}", param=PARAM)
    try:
        options = msgspec.convert(_plain(route), RouteOptions)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$")
        raise InvalidRequest(f"{PARAM}{where.rstrip('`')}: {what[:1].lower()}{what[1:]}".replace("`", ""), param=PARAM) from None
    most = options.max_cost_usd
    if most is not None and not (most.is_finite() and 0 < most <= _MILLION):
        raise InvalidRequest(f"{PARAM}.max_cost_usd: a number of dollars above 0, at most {_MILLION}", param=PARAM)
    return options


def _plain(route: Json) -> dict[str, Any]:
    """A number of dollars exactly as it was written: 0.1 is a tenth."""
    cost = route.get("max_cost_usd")
    return {**route, "max_cost_usd": str(cost)} if isinstance(cost, int | float) and not isinstance(cost, bool) else route
