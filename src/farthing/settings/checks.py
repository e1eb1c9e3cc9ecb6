"""The checks of a cascade: `routing.routers.X.cascade.checks`, told apart by their `kind`. See docs/checks.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from farthing.patterns import LinearPattern, WrongPattern
from farthing.settings.basic import Section

_MOST_HELD = 100_000


def _hold(value: Any) -> str | int:
    if isinstance(value, str) and value in {"all", "annotate"}:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST_HELD:
        return value
    msg = f"must be all, annotate, or a number of tokens (1 to {_MOST_HELD})"
    raise ValueError(msg)


HoldBeginning = Annotated[Literal["all", "annotate"] | int, PlainValidator(_hold)]
"""How much of a stream is held back: all of it, so many tokens, or none."""
HoldAll = Literal["all", "annotate"]
"""For a check that can say nothing of a beginning."""
OnError = Literal["pass", "reject"]
CheckSeconds = Annotated[float, Field(gt=0, le=60)]


class CheckSettings(Section):
    """What every kind of check has."""

    kind: str
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,48}$")] | None = None
    """What the ledger and the metrics call it; its kind unless set."""
    models: list[str] = []
    """Only the answers of these models are looked at; all unless set."""


class JsonSchemaCheckSettings(CheckSettings):
    """The answer is the JSON that `response_format` asks for, and arguments of tool calls are what the tools take."""

    kind: Literal["json_schema"]
    hold: HoldBeginning = "all"
    timeout_s: CheckSeconds = 2
    """For a large schema or text. What takes longer is not checked."""
    on_error: OnError = "pass"
    """What happens when it cannot be checked: a schema that cannot be read, refers elsewhere, or asks for too much work."""


class RefusalCheckSettings(CheckSettings):
    """The answer does not refuse."""

    kind: Literal["refusal"]
    hold: HoldBeginning = 40
    phrases: Annotated[list[Annotated[str, Field(min_length=3, max_length=200)]], Field(max_length=64)] = []
    """Further beginnings of an answer that are a refusal. Case does not matter."""


class EmptyCheckSettings(CheckSettings):
    """The answer says something, or calls a tool."""

    kind: Literal["empty"]
    min_chars: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Characters without the blanks around them."""
    hold: HoldBeginning | None = None
    """As many tokens as there must be characters, at least 8, unless set."""


class TruncatedCheckSettings(CheckSettings):
    """The answer was not cut off."""

    kind: Literal["truncated"]
    hold: HoldAll = "all"
    own_limit: OnError = "pass"
    """What happens when the answer is as long as the caller's own `max_tokens` allowed."""


class RepetitionCheckSettings(CheckSettings):
    """The answer does not say the same over and over."""

    kind: Literal["repetition"]
    hold: HoldBeginning = 200
    times: Annotated[int, Field(ge=3, le=1000)] = 8
    """How often something must come one after the other to be a loop."""
    min_ratio: Annotated[float, Field(ge=0, le=1)] = 0.03
    """A text of 1,000 characters or more that packs (zlib) into a smaller share of its size than this is a loop; 0: never."""


def _runs_in_linear_time(pattern: str) -> str:
    try:
        LinearPattern(pattern)
    except WrongPattern as error:
        raise ValueError(str(error)) from None
    return pattern


Pattern = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_runs_in_linear_time)]


class PatternCheckSettings(CheckSettings):
    """The text of the answer matches a regular expression, or does not match one, anywhere in it."""

    kind: Literal["pattern"]
    must_match: Pattern | None = None
    must_not_match: Pattern | None = None
    hold: HoldBeginning = "all"

    @model_validator(mode="after")
    def _asks_something(self) -> PatternCheckSettings:
        if self.must_match is None and self.must_not_match is None:
            msg = "set must_match or must_not_match"
            raise ValueError(msg)
        return self


class ConfidenceCheckSettings(CheckSettings):
    """The model was sure of its tokens, as far as their log-probabilities are known."""

    kind: Literal["confidence"]
    min_mean: Annotated[float, Field(ge=-100, le=0)] | None = None
    """The least mean log-probability (natural) of a token."""
    min_decile: Annotated[float, Field(ge=-100, le=0)] | None = None
    """The least mean log-probability of the tenth of the tokens that it was least sure of."""
    ask: bool = False
    """Ask `models` for log-probabilities where the caller did not; the caller does not get to see them."""
    hold: HoldBeginning = "all"

    @model_validator(mode="after")
    def _asks_something(self) -> ConfidenceCheckSettings:
        if self.min_mean is None and self.min_decile is None:
            msg = "set min_mean or min_decile"
            raise ValueError(msg)
        if self.ask and not self.models:
            msg = "ask needs models: name those whose provider tells log-probabilities"
            raise ValueError(msg)
        return self


class ValidatorCheckSettings(CheckSettings):
    """Your own Python function says whether the answer is good. It runs in a process of its own."""

    kind: Literal["validator"]
    entry_point: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$|^[A-Za-z0-9._-]+$", max_length=200)]
    """`package.module:function`, or a name in the entry-point group `farthing.validators`."""
    timeout_s: CheckSeconds = 2
    on_error: OnError = "pass"
    """What happens when it raises, hangs, crashes or returns something that is neither bool, text nor None."""
    memory_mb: Annotated[int, Field(ge=64, le=1_048_576)] = 1024
    """Address space of its process."""
    hold: HoldAll = "all"


class JudgeCheckSettings(CheckSettings):
    """A cheap model says how good the answer is."""

    kind: Literal["judge"]
    model: str
    scale: Literal["score", "pass_fail"] = "score"
    """`score`: 1 to 10; `pass_fail`: one of both."""
    min_score: Annotated[int, Field(ge=2, le=10)] = 6
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Which share of the answers it is asked about. The others pass."""
    timeout_s: CheckSeconds = 5
    on_error: OnError = "pass"
    """What happens when it does not answer in time, or not in the form that was asked for."""
    instructions: Annotated[str, Field(max_length=4000)] = ""
    """What a good answer is, in your words."""
    max_chars: Annotated[int, Field(ge=200, le=200_000)] = 8000
    """Of the question and of the answer that it is shown; the middle of what is longer is left out."""
    hold: HoldAll = "all"


AnyCheckSettings = Annotated[
    JsonSchemaCheckSettings
    | RefusalCheckSettings
    | EmptyCheckSettings
    | TruncatedCheckSettings
    | RepetitionCheckSettings
    | PatternCheckSettings
    | ConfidenceCheckSettings
    | ValidatorCheckSettings
    | JudgeCheckSettings,
    Field(discriminator="kind"),
]


def models_asked(checks: Sequence[Any]) -> dict[str, str]:
    """The models that are asked for log-probabilities, each under the place where a check names it."""
    asking = [(at, check) for at, check in enumerate(checks) if isinstance(check, ConfidenceCheckSettings) and check.ask]
    return {f"{at}.models.{place}": model for at, check in asking for place, model in enumerate(check.models)}


def models_named(checks: Sequence[Any]) -> dict[str, str]:
    """The models that checks name, each under the place where they do: `0.model`, `2.models.1`."""
    named = {f"{at}.model": check.model for at, check in enumerate(checks) if isinstance(check, JudgeCheckSettings)}
    return named | {f"{at}.models.{place}": model for at, check in enumerate(checks) for place, model in enumerate(check.models)}
