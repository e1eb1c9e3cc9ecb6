"""What a cheap model may read out of what users say, and what that may cost. See docs/extraction.md."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from farthing.settings.basic import Count, Seconds, Section, Usd
from farthing.settings.memory_rules import DEFAULT_RULES, EventType, FactKey, FactRuleSettings, check_fact_rules


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DENIED_WORDS: Final = _words(
    "role roles admin administrator permission permissions privilege privileges access accesses right rights scope scopes entitlement "
    "entitlements tier quota limit limits price prices pricing discount discounts refund refunds credit credits balance budget paid "
    "verified trusted trust authorized authorised authenticated approved password passwords secret secrets token tokens credential "
    "credentials apikey pin instruction instructions prompt system policy policies rule rules command commands sudo root superuser "
    "tenant tenants"
)
"""No key with one of these words in it is learnt from what a user says: what a user may do or has to pay is not his to say."""


class FactKeySettings(Section):
    """A key that facts may have."""

    type: Literal["string", "number", "boolean"] = "string"
    multi: bool = False
    """Whether it gathers values. Else a new value takes the place of the old one."""
    description: Annotated[str, Field(max_length=200)] = ""
    """What the model is told about it."""
    values: Annotated[list[str], Field(min_length=1, max_length=100)] | None = None
    """The only ones that it may have."""
    ttl_s: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = None
    """Seconds after which such a fact is gone. Unset: never."""

    @model_validator(mode="after")
    def _values_are_texts(self) -> FactKeySettings:
        if self.values is not None and self.type != "string":
            msg = f"values is for texts, and the type is {self.type}"
            raise ValueError(msg)
        return self


DEFAULT_KEYS = {
    "name": FactKeySettings(description="what the user wants to be called"),
    "language": FactKeySettings(description="the language that the user wants answers in"),
    "location": FactKeySettings(description="the city, country or region where the user lives or operates"),
    "timezone": FactKeySettings(),
    "occupation": FactKeySettings(description="what the user does for a living"),
    "company": FactKeySettings(description="where the user works"),
    "building": FactKeySettings(multi=True, description="what the user is building or working on for long"),
    "uses": FactKeySettings(multi=True, description="tools, products and programming languages that the user works with"),
    "prefers": FactKeySettings(multi=True, description="lasting preferences, also about how answers should be"),
    "dislikes": FactKeySettings(multi=True),
    "goal": FactKeySettings(multi=True, description="what the user wants to reach in the coming months"),
    "interest": FactKeySettings(multi=True),
    "family": FactKeySettings(multi=True, description="people close to the user"),
    "pet": FactKeySettings(multi=True),
    "diet": FactKeySettings(multi=True, description="what the user eats or does not eat"),
    "frustrated_by": FactKeySettings(multi=True, description="what keeps going wrong for the user", ttl_s=30 * 86_400),
}
"""The keys of `memory.keys` unless others are named."""


class ExtractorSettings(Section):
    """The model that reads facts out of what no rule has taken."""

    model: str | None = None
    """A cheap chat model. Unset: none is asked, and only rules make facts."""
    types: Annotated[list[EventType], Field(min_length=1, max_length=100)] = ["*"]
    """Types of events that it reads; of our own (`farthing.…`) only turns of chats are."""
    structured: Annotated[list[EventType], Field(max_length=100)] = ["error.*", "page.*", "click.*"]
    """Types of events that are for rules only: it is never asked about them."""
    most: Annotated[int, Field(ge=1, le=200)] = 20
    """Events of a user that it reads together."""
    linger_s: Annotated[float, Field(ge=0, le=86_400)] = 10
    """How long is waited after an event for more of the same user."""
    max_turn_chars: Annotated[int, Field(ge=100, le=100_000)] = 2000
    """Of each event; of a longer one, the beginning and the end are read."""
    max_chars: Annotated[int, Field(ge=100, le=400_000)] = 12_000
    """Of all events in one question."""
    max_tokens: Annotated[int, Field(ge=16, le=16_000)] = 500
    """The longest answer."""
    timeout_s: Seconds = 20
    """For one answer. Without one the events are tried again later, as the bus does with all that fails."""
    max_questions: Annotated[int, Field(ge=1, le=1000)] = 16
    """Questions under way in one process. Further ones wait, within the time that a handler has (`events.deadline_s`)."""
    usd_per_user_per_day: Usd = Decimal("0.01")
    """What may be spent on the events of one user in a UTC day. Beyond it events are left unread."""
    usd_per_tenant_per_day: Usd = Decimal(1)
    """The same of all users of a tenant together."""
    calls_per_user_per_day: Count = 200
    """Holds where nobody knows what a model costs, too."""
    max_facts: Annotated[int, Field(ge=1, le=100)] = 10
    """Facts out of one question; further ones are dropped."""
    grounding: Annotated[float, Field(ge=0, le=1)] = 0.34
    """Share of the words of a fact that must stand in the events that it was read from. Its names and numbers all must."""
    constrained: bool = True
    """Whether it is sent a JSON schema (`response_format`). For servers that refuse one: false."""
    instructions: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    """What is said to it in place of our own words. What form the answer must have, and that the events are data, is always added."""


class ExtractionSettings(Section):
    """What is learnt of users, and how: the part of the section `memory` that is about events."""

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
    max_value_chars: Annotated[int, Field(ge=10, le=250)] = 200
    """The longest value of a fact."""
    personal_data: Literal["keep", "scrub"] = "keep"
    """With `scrub`, mail and street addresses, telephone numbers and numbers of documents are neither read nor kept. Secrets never are."""
    extractor: ExtractorSettings = ExtractorSettings()

    def all_rules(self) -> list[FactRuleSettings]:
        """One's own, and those that come with Farthing unless they are switched off."""
        named = {rule.name for rule in self.rules}
        return [*self.rules, *(rule for rule in DEFAULT_RULES if self.default_rules and rule.name not in named)]

    @model_validator(mode="after")
    def _keys_can_be_learnt(self) -> ExtractionSettings:
        for key in self.keys:
            if denied := DENIED_WORDS & set(key.split("_")):
                msg = f"keys.{key}: nothing about {min(denied)!r} is learnt from what a user says; make a rule on your back end's events"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _rules_agree(self) -> ExtractionSettings:
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
