"""The section on prompts: system texts that callers name instead of sending them. See docs/prompts.md."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from farthing.settings.basic import Section

PROMPT_NAME = r"^[A-Za-z0-9._-]{1,64}$"
Family = Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,32}$")]
Text = Annotated[str, Field(min_length=1, max_length=65_536)]


class PromptSettings(Section):
    """A system text, and how it reads for families of models that want other words."""

    system: Text
    variants: Annotated[dict[Family, Text], Field(max_length=32)] = {}
    """By family (see `models.NAME.family`)."""

    @field_validator("system")
    @classmethod
    def _says_something(cls, value: str) -> str:
        return _not_blank(value)

    @field_validator("variants")
    @classmethod
    def _say_something(cls, value: dict[str, str]) -> dict[str, str]:
        return {family: _not_blank(text) for family, text in value.items()}


def _not_blank(text: str) -> str:
    if not text.strip():
        msg = "must not be blank"
        raise ValueError(msg)
    return text
