"""The section `parameters` of a model: what is sent to it instead of what the caller sent."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from farthing.settings.basic import Count, Section

LIMITS = ("max_completion_tokens", "max_tokens")
"""OpenAI's two names for the longest answer, the newer one first."""

_SHAPE = frozenset(
    {
        "audio",
        "dimensions",
        "encoding_format",
        "function_call",
        "functions",
        "input",
        "logprobs",
        "messages",
        "modalities",
        "model",
        "n",
        "prediction",
        "response_format",
        "stream",
        "stream_options",
        "tool_choice",
        "tools",
        "top_logprobs",
    }
)
"""Fields on which the shape of the answer hangs: a client that sent one reads its answer accordingly."""

_OWN = {"max_tokens": "max_tokens", "max_completion_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p", "stop": "stop"}
"""Fields that have a section of their own here."""

_Temperature = Annotated[float, Field(ge=0, le=10)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Part = TypeVar("_Part", bound=Section)


class LimitSettings(Section):
    """`max_tokens` and `max_completion_tokens`, which mean the same: only one of them is sent."""

    max: Count | None = None
    """A caller who asks for longer answers gets this."""
    default: Count | None = None
    """Sent when the caller names no limit."""
    name: Literal["max_tokens", "max_completion_tokens"] | None = None
    """The name that the model's server knows. Unless it is set, the name that the caller used."""

    @model_validator(mode="after")
    def _meet(self) -> LimitSettings:
        if self.max is not None and self.default is not None and self.default > self.max:
            msg = "default must not be above max"
            raise ValueError(msg)
        return self


class TemperatureSettings(Section):
    """A caller's temperature is multiplied by `scale`, then held between `min` and `max`. One who names none is left alone."""

    min: _Temperature = 0
    max: _Temperature | None = None
    scale: Annotated[float, Field(gt=0, le=10)] = 1

    @model_validator(mode="after")
    def _meet(self) -> TemperatureSettings:
        return _ordered(self, self.min, self.max)


class TopPSettings(Section):
    """A caller's `top_p` is held between `min` and `max`."""

    min: _Share = 0
    max: _Share | None = None

    @model_validator(mode="after")
    def _meet(self) -> TopPSettings:
        return _ordered(self, self.min, self.max)


class StopSettings(Section):
    """Of a caller's stop sequences the first `most` are sent."""

    most: Annotated[int, Field(ge=0, le=10_000)]


class ChoicesSettings(Section):
    """A caller who asks for more than `max` answers at once gets `max`."""

    max: Count


class ParameterSettings(Section):
    """What is sent to this model, whoever sends it there: the caller, a router or a fallback. The caches see what the caller sent.

    First `drop`, then each field's own line, then `set`.
    """

    max_tokens: LimitSettings | None = None
    temperature: TemperatureSettings | None = None
    top_p: TopPSettings | None = None
    stop: StopSettings | None = None
    n: ChoicesSettings | None = None
    drop: list[str] = []
    """Fields of the request that this model's server refuses. None on which the shape of the answer hangs."""
    set: dict[str, Any] = {}
    """Fields that are sent whatever the caller said."""

    @model_validator(mode="after")
    def _keeps_the_shape(self) -> ParameterSettings:
        for where, names in (("drop", self.drop), ("set", self.set)):
            for name in names:
                if name in _SHAPE:
                    msg = f"{where}: {name!r} changes the shape of the answer, which the caller would not expect"
                    raise ValueError(msg)
        for name in self.drop:
            if name in LIMITS:
                msg = f"drop: without {name!r} answers have no limit; max_tokens.name says what it is called here"
                raise ValueError(msg)
            if name in _OWN and getattr(self, _OWN[name]) is not None:
                msg = f"drop: {name!r} is dropped and has a line of its own"
                raise ValueError(msg)
        for name in self.set:
            if name in LIMITS:
                msg = f"set: {name!r} is for the line max_tokens"
                raise ValueError(msg)
            if name in self.drop or (name in _OWN and getattr(self, _OWN[name]) is not None):
                msg = f"set: {name!r} is set and also dropped or held by a line of its own"
                raise ValueError(msg)
        return self

    @property
    def only_for_chat(self) -> bool:
        """Whether there is anything that embeddings do not have."""
        return any(part is not None for part in (self.max_tokens, self.temperature, self.top_p, self.stop, self.n))


def _ordered(part: _Part, low: float, high: float | None) -> _Part:
    if high is not None and low > high:
        msg = "min must not be above max"
        raise ValueError(msg)
    return part
