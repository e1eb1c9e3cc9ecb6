"""The section on routers: which model answers which request. See docs/routing.md."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from farthing.settings.basic import Seconds, Section
from farthing.settings.checks import AnyCheckSettings

Quality = Annotated[float, Field(gt=0, le=1)]


class RuleSettings(Section):
    """A rule: the first one whose conditions all hold decides. `use` is a model, or `judge`, `cascade` or `learned`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,48}$")]
    when: dict[str, Any] = {}
    use: str


class RouteJudgeSettings(Section):
    """A cheap model that says of what kind a request is. `classes` maps what it may say to a model, or to `cascade` or `learned`."""

    model: str
    classes: dict[str, str] = {}
    timeout_s: Seconds = 1


class CascadeSettings(Section):
    """Models in the order to ask them, each only when the answer of the one before did not pass the `checks`."""

    models: list[str] = []
    checks: Annotated[list[AnyCheckSettings], Field(max_length=32)] = []


class LearnedSettings(Section):
    """The trained router. `quality`: the share of the best model's quality that is kept; a request may ask for another one."""

    quality: Quality = 0.95


class RouterSettings(Section):
    """A name that callers use as a model. `models` are its candidates, the weakest (and cheapest) first.

    Rules first; `otherwise` (a model, `judge`, `cascade`, `learned`) for what none of them takes; `default` (the last of `models` unless
    set) wherever something that should have decided could not.
    """

    models: Annotated[list[str], Field(min_length=1)]
    rules: list[RuleSettings] = []
    otherwise: str | None = None
    default: str | None = None
    judge: RouteJudgeSettings | None = None
    cascade: CascadeSettings | None = None
    learned: LearnedSettings | None = None


class RoutingSettings(Section):
    """Routers by name, and the models (catalogue names) in whose place one of them is asked."""

    routers: dict[str, RouterSettings] = {}
    replace: dict[str, str] = {}
