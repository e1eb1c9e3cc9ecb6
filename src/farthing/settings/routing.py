"""The section on routers: which model answers which request. See docs/routing.md."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from farthing.settings.basic import Count, Seconds, Section
from farthing.settings.checks import AnyCheckSettings, models_named
from farthing.settings.learned import LearnedSettings
from farthing.settings.names import MODEL_NAME, must_be_one_of, nearest
from farthing.settings.rules import RuleSettings, check_rules

_WORDS = {True: "yes or on", False: "no or off"}


def _class_names(value: Any) -> Any:
    """YAML reads the unquoted name `1` as a number, and `yes` as a truth, which cannot be turned back."""
    if not isinstance(value, dict):
        return value
    for name in value:
        if isinstance(name, bool):
            msg = f"YAML reads an unquoted {_WORDS[name]} as a truth value: put the class's name in quotes"
            raise ValueError(msg)  # noqa: TRY004 - pydantic turns a ValueError into a complaint
    return {str(name) if isinstance(name, int) else name: one for name, one in value.items()}


class JudgeClassSettings(Section):
    """What to do with a kind of request: `use` a model, `cascade` or `learned`. `means` describes the kind to the judge."""

    use: str
    means: Annotated[str, Field(min_length=1, max_length=500)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value


_CLASS_NAME = re.compile(r"[A-Za-z0-9_-]{1,24}")


class RouteJudgeSettings(Section):
    """A cheap model that says of what kind a request is. `classes` maps what it may say to a model, or to `cascade` or `learned`.

    Its word is the exact cache's to keep. Anything but the name of a class, said in time, leaves the request to the router's `default`.
    """

    model: str
    classes: Annotated[dict[str, JudgeClassSettings], BeforeValidator(_class_names), Field(min_length=2, max_length=16)]
    timeout_s: Seconds = 1
    instructions: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    """What is said to the judge before the list of classes, in place of our own words."""
    max_chars: Annotated[int, Field(ge=100, le=20_000)] = 2000
    """Of the last user message; of a longer one it reads the first and the last half of that."""
    max_tokens: Annotated[int, Field(ge=1, le=10_000)] = 32
    """How long its answer may be. A model that thinks aloud needs more."""
    constrained: bool = True
    """Whether it is held to a JSON schema. False for a model that knows none: it then says the bare name of a class."""

    @field_validator("classes")
    @classmethod
    def _are_names(cls, classes: dict[str, JudgeClassSettings]) -> dict[str, JudgeClassSettings]:
        for name in classes:
            if not _CLASS_NAME.fullmatch(name):
                msg = f"the name of a class has 1 to 24 letters, digits and _ -, not {name[:64]!r}"
                raise ValueError(msg)
        return classes


class CascadeSettings(Section):
    """Models in the order to ask them, each only when the answer of the one before did not pass the `checks`."""

    models: list[str] = []
    checks: Annotated[list[AnyCheckSettings], Field(max_length=32)] = []


JUDGE, CASCADE, LEARNED = "judge", "cascade", "learned"
WAYS = (JUDGE, CASCADE, LEARNED)
"""What `use` may name beside models."""


class RouterSettings(Section):
    """A name that callers use as a model. `models` are its candidates, the weakest (and cheapest) first: nothing else ever answers.

    Rules first; `otherwise` (a model, `judge`, `cascade`, `learned`) for what none of them takes, unless it is set the first of learned,
    judge, cascade that there is; `default` (the last of `models` unless set) wherever something that should have decided could not.
    """

    models: Annotated[list[str], Field(min_length=1, max_length=32)]
    rules: Annotated[list[RuleSettings], Field(max_length=200)] = []
    otherwise: str | None = None
    default: str | None = None
    judge: RouteJudgeSettings | None = None
    cascade: CascadeSettings | None = None
    learned: LearnedSettings | None = None

    @property
    def fallback(self) -> str:
        """The model for when nothing else can decide."""
        return self.default or self.models[-1]

    @property
    def last_rule(self) -> str:
        """What is done when no rule decides."""
        there = {LEARNED: self.learned, JUDGE: self.judge, CASCADE: self.cascade}
        return self.otherwise or next((way for way, section in there.items() if section is not None), self.fallback)

    @property
    def cascade_models(self) -> list[str]:
        """The models of the cascade: all candidates unless it names its own."""
        return (self.cascade.models if self.cascade else []) or self.models

    @model_validator(mode="after")
    def _parts_meet(self) -> RouterSettings:
        _each_once("models", self.models)
        check_rules(self.rules)
        uses = {f"rules.{at}.use": rule.use for at, rule in enumerate(self.rules)}
        uses |= {} if self.otherwise is None else {"otherwise": self.otherwise}
        for where, use in uses.items():
            self._may_use(where, use, WAYS)
        for name, one in (self.judge.classes if self.judge else {}).items():
            self._may_use(f"judge.classes.{name}", one.use, (CASCADE, LEARNED))
        if self.default is not None:
            self._may_use("default", self.default, ())
        if self.cascade is not None:
            _each_once("cascade.models", self.cascade.models)
            for model in self.cascade.models:
                self._may_use("cascade.models", model, ())
        return self

    def _may_use(self, where: str, use: str, ways: tuple[str, ...]) -> None:
        if use in ways:
            if getattr(self, use) is None:
                msg = f"{where}: {use} needs the section {use} of this router"
                raise ValueError(msg)
        elif use not in self.models:
            known = {*self.models, *(way for way in ways if getattr(self, way) is not None)}
            msg = f"{where}: {use!r} is not among this router's models{nearest(use, known)}"
            raise ValueError(msg)


def _each_once(where: str, models: list[str]) -> None:
    for model in models:
        if models.count(model) > 1:
            msg = f"{where}: {model!r} is there twice"
            raise ValueError(msg)


class RoutingSettings(Section):
    """Routers by name, and the models (catalogue names) in whose place one of them is asked."""

    routers: Annotated[dict[str, RouterSettings], Field(max_length=100)] = {}
    replace: dict[str, str] = {}
    max_questions: Count = 256
    """Questions to judges that a worker has under way; beyond it, what would have been asked is left to the `default`."""
    max_held_bytes: Count = 8 * 2**20
    """How much of a stream is held for checks that may reject it. One that grows longer goes out unchecked."""
    checks_timeout_s: Seconds = 30
    """For all checks of one answer together; beyond that it counts as unchecked."""

    def check_names(self, chat: set[str], all_models: set[str]) -> None:
        """Raise ValueError for names that do not meet those of the models. `chat` are the chat models, `all_models` includes others."""
        for name in self.routers:
            if not MODEL_NAME.fullmatch(name):
                msg = f"routing.routers.{name}: a router's name has 1 to 128 letters, digits and . _ : / @ -"
                raise ValueError(msg)
            if name == "off":
                msg = "routing.routers.off: farthing.route: off means that no router decides; find another name"
                raise ValueError(msg)
            if name in all_models:
                msg = f"routing.routers.{name}: there is a model of that name; to route who asks for it, set routing.replace.{name}"
                raise ValueError(msg)
        for name, router in self.routers.items():
            self._check_models(f"routing.routers.{name}", router, chat, all_models)
        for model, router_name in self.replace.items():
            self._must_be_chat("routing.replace", model, chat, all_models)
            must_be_one_of(f"routing.replace.{model}", router_name, set(self.routers))

    def _check_models(self, where: str, router: RouterSettings, chat: set[str], all_models: set[str]) -> None:
        for model in router.models:
            self._must_be_chat(f"{where}.models", model, chat, all_models)
            if model in WAYS:
                msg = f"{where}.models: a candidate cannot have the name {model!r}, which rules use for something else"
                raise ValueError(msg)
        if router.judge is not None:
            self._must_be_chat(f"{where}.judge.model", router.judge.model, chat, all_models)
        for place, model in models_named(router.cascade.checks if router.cascade else ()).items():
            self._must_be_chat(f"{where}.cascade.checks.{place}", model, chat, all_models)
        for at, rule in enumerate(router.rules):
            for model in rule.when.model or ():
                must_be_one_of(f"{where}.rules.{at}.when.model", model, chat | set(self.routers))

    def _must_be_chat(self, where: str, model: str, chat: set[str], all_models: set[str]) -> None:
        if model in self.routers:
            msg = f"{where}: {model!r} is a router; only models can stand here"
            raise ValueError(msg)
        if model in all_models and model not in chat:
            msg = f"{where}: {model!r} is for embeddings, not for chat"
            raise ValueError(msg)
        must_be_one_of(where, model, chat)
