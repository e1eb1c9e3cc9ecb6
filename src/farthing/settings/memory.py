"""The section on what is remembered of users. See docs/memory.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from farthing.settings.basic import Count, Section
from farthing.settings.memory_extraction import DEFAULT_KEYS, ExtractorSettings, FactKeySettings
from farthing.settings.memory_rules import DEFAULT_RULES, FactKey, FactRuleSettings, check_fact_rules


class MemorySettings(Section):
    """What is learnt of users."""

    rules: Annotated[list[FactRuleSettings], Field(max_length=200)] = []
    """Facts out of events without a model."""
    default_rules: bool = True
    """Whether the rules that come with Farthing hold too. One of yours of the same name takes the place of one of them."""
    max_sightings: Count = 1_000_000
    """Events that are kept for being counted by rules; the oldest go."""
    keys: Annotated[dict[FactKey, FactKeySettings], Field(max_length=100)] = DEFAULT_KEYS
    """The keys that facts read by the model may have."""
    open_keys: bool = False
    """Whether they may have other keys too."""
    denied_keys: Annotated[list[FactKey], Field(max_length=100)] = []
    """Words that no key of theirs may have in it, beside those that never may: what a user may do or has to pay is not his to say."""
    max_value_chars: Annotated[int, Field(ge=10, le=4000)] = 200
    """The longest value of a fact."""
    personal_data: Literal["keep", "scrub"] = "keep"
    """With `scrub`, mail and street addresses, telephone numbers and numbers of documents are neither read nor kept. Secrets never are."""
    extractor: ExtractorSettings = ExtractorSettings()

    def all_rules(self) -> list[FactRuleSettings]:
        """One's own, and those that come with Farthing unless they are switched off."""
        named = {rule.name for rule in self.rules}
        return [*self.rules, *(rule for rule in DEFAULT_RULES if self.default_rules and rule.name not in named)]

    @model_validator(mode="after")
    def _rules_agree(self) -> MemorySettings:
        rules = self.all_rules()
        check_fact_rules(rules)
        for at, rule in enumerate(rules):
            declared = self.keys.get(rule.key)
            if declared is not None and declared.multi != rule.multi:
                msg = f"rules.{at}: {rule.name!r} and keys.{rule.key} disagree on whether it is multi"
                raise ValueError(msg)
            if isinstance(rule.value, str) and not rule.places and len(rule.value) > self.max_value_chars:
                msg = f"rules.{at}: the value of {rule.name!r} is longer than max_value_chars ({self.max_value_chars})"
                raise ValueError(msg)
        return self
