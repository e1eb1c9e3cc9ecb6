"""The section on answers ready before the click. See docs/foresight.md."""

from __future__ import annotations

import re
from collections.abc import Collection
from decimal import Decimal
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from farthing.cron import checked
from farthing.errors import InvalidRequest
from farthing.settings.basic import Count, Seconds, Section, Usd
from farthing.settings.edge_aws import EdgeSettings
from farthing.settings.names import must_be_one_of, nearest
from farthing.templates import PATH, Template, WrongTemplate

NAME = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=NAME)]
Pattern = Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9._:/-]{0,127}[A-Za-z0-9_:-](\.\*)?)$")]
"""A type of events, `prefix.*`, or `*`."""
Patterns = Annotated[list[Pattern], Field(max_length=100)]
Path = Annotated[str, Field(pattern=f"^{PATH}$", max_length=256)]
Text = Annotated[str, Field(min_length=1, max_length=65_536)]
Share = Annotated[float, Field(ge=0, le=1)]
_HOST = re.compile(r"[a-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9a-f:]{2,45}\](:[0-9]{1,5})?")


class StateSettings(Section):
    """Something that answers hang on, and the events by which it changes."""

    types: Annotated[Patterns, Field(min_length=1)]
    per: Annotated[str, Field(pattern=rf"^(tenant|user|{PATH})$")] = "tenant"
    """Whose it is: one of each `tenant`, of each `user`, or of each value at a place in the event's data, such as `data.project`."""


class SourceSettings(Section):
    """What a prompt is told besides: the answer to a GET, facts about the user, or a part of the event. One of them."""

    url: Annotated[str, Field(max_length=2048)] | None = None
    """`https://api.example.com/users/{user}/alerts`: the host must be one of `foresight.hosts`."""
    facts: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=100)] | None = None
    """Keys of facts; an empty list for all that is known."""
    data: Path | None = None
    max_chars: Annotated[int, Field(ge=16, le=200_000)] = 8000
    """What is longer is cut."""
    required: bool = True
    """Without it there is no answer ahead. Else the prompt says null in its place."""

    @model_validator(mode="after")
    def _is_one(self) -> SourceSettings:
        if sum(one is not None for one in (self.url, self.facts, self.data)) != 1:
            msg = "needs one of url, facts and data"
            raise ValueError(msg)
        if self.url is not None:
            netloc_of(self.url)
        return self


class ActionSettings(Section):
    """A click that can be foreseen: after which events, what the model is asked, and for how long the answer is good."""

    after: Patterns = []
    """Types of events after which it may be computed ahead. None: it is computed when it is asked for, and kept."""
    model: Annotated[str, Field(max_length=128)]
    system: Text | None = None
    user: Text
    """The prompt. `{user}`, `{data.FIELD}` and `{context.NAME}` stand for values, which are quoted as data."""
    context: Annotated[dict[Name, SourceSettings], Field(max_length=8)] = {}
    max_tokens: Annotated[int, Field(ge=1, le=100_000)] = 512
    answer: Literal["text", "json"] = "text"
    ttl_s: Annotated[float, Field(gt=0, le=604_800)] = 3600
    depends_on: Annotated[list[Name], Field(max_length=16)] = []
    """States: when one of them changes, the answer is gone."""
    segment: Path | None = None
    """Clicks are counted apart by what is here in the event's data, such as `data.plan`."""
    price_of_latency_usd: Annotated[Usd, Field(le=1000)] = Decimal("0.002")
    """What it is worth that a user who clicks need not wait."""

    def templates(self) -> list[Template]:
        """Those of the prompt: the system's (empty where there is none) and the user's. Raises `WrongTemplate`."""
        return [Template(text, contexts=self.context) for text in (self.system or "", self.user)]

    @model_validator(mode="after")
    def _can_be_read(self) -> ActionSettings:
        if not self.user.strip():
            msg = "user must not be blank"
            raise ValueError(msg)
        used = {name for template in self.templates() for name in template.names}
        for name in self.context:
            if f"context.{name}" not in used:
                msg = f"context.{name} is not used: write {{context.{name}}} in user or system"
                raise ValueError(msg)
        return self


class HostSettings(Section):
    """A host that context may be fetched from. Its addresses must be public ones unless it is `private`."""

    private: bool = False
    """It is in our own network: addresses that are not public, and plain http."""
    headers: Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")], SecretStr], Field(max_length=16)] = {}
    timeout_s: Seconds = 3
    max_bytes: Annotated[int, Field(ge=1, le=2**24)] = 2**18
    max_connections: Annotated[int, Field(ge=1, le=256)] = 8


class ForesightSettings(Section):
    """What is computed ahead, and how much of it."""

    edge: EdgeSettings = EdgeSettings()
    states: Annotated[dict[Name, StateSettings], Field(max_length=100)] = {}
    actions: Annotated[dict[Name, ActionSettings], Field(max_length=200)] = {}
    hosts: Annotated[dict[str, HostSettings], Field(max_length=100)] = {}
    """By name, with the port where it is not the usual one."""
    max_per_event: Annotated[int, Field(ge=1, le=32)] = 3
    """Actions that are computed after one event."""
    explore: Share = 0.1
    """Of the events, after which one action more is tried that does not seem to pay, so that something is learnt of it."""
    prior_click: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """How likely a click is taken to be before anything is known."""
    prior_weight: Annotated[float, Field(gt=0, le=1000)] = 4
    """Of how many answers that guess is worth; and what is known of an action, for each of its segments."""
    half_life_days: Annotated[float, Field(gt=0, le=3650)] = 14
    """After so long what happened counts half."""
    max_segments: Annotated[int, Field(ge=1, le=10_000)] = 50
    """Segments of an action that are told apart; the others are one."""
    max_event_age_s: Annotated[float, Field(gt=0, le=86_400)] = 300
    """An event that we hear of later than this foretells nothing any more."""
    compute_timeout_s: Seconds = 20
    """For the model. Twice this and `context_timeout_s` should fit into `events.deadline_s`: what is cut off there is tried again."""
    context_timeout_s: Seconds = 5
    """For all context of a prompt together."""
    max_under_way: Annotated[int, Field(ge=1, le=1024)] = 16
    """Answers that a process computes ahead at the same time; further ones are left out."""
    read_timeout_s: Seconds = 0.25
    """How long a click waits for the store; after that it is answered by the model."""
    follow_timeout_s: Seconds = 30
    """How long a click waits for an answer that is being computed."""
    max_rows: Count = 1_000_000
    """Answers that are kept, of all tenants; the oldest go."""
    max_answer_bytes: Annotated[int, Field(ge=256, le=2**22)] = 2**16
    """A longer one is given but not kept."""
    max_pending: Count = 10_000
    """Clicks that a process holds until PostgreSQL has counted them. Beyond it, they are dropped and counted."""
    flush_interval_s: Seconds = 0.5
    settle_interval_s: Seconds = 30
    """How often it is counted which answers nobody has read."""
    report: str = "10 0 * * 1"
    """When the waste report of last week is stored, as a cron expression (UTC)."""
    keep_weeks: Annotated[int, Field(ge=1, le=520)] = 26
    """How long counts and weekly reports are kept."""

    @field_validator("report")
    @classmethod
    def _fires(cls, report: str) -> str:
        try:
            return checked(report)
        except InvalidRequest as error:
            raise ValueError(error.message) from None

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: dict[str, HostSettings]) -> dict[str, HostSettings]:
        for name in hosts:
            if not _HOST.fullmatch(name):
                msg = f"{name[:64]!r} is no host: write api.example.com or api.example.com:8443, in lower case"
                raise ValueError(msg)
        return hosts

    @model_validator(mode="after")
    def _names_meet(self) -> ForesightSettings:
        for name, action in self.actions.items():
            for state in action.depends_on:
                must_be_one_of(f"actions.{name}.depends_on", state, set(self.states))
            for context, source in action.context.items():
                if source.url is not None:
                    self._check_url(f"actions.{name}.context.{context}.url", source.url)
        return self

    def _check_url(self, where: str, url: str) -> None:
        scheme, netloc = netloc_of(url)
        host = self.hosts.get(netloc)
        if host is None:
            msg = f"{where}: {netloc!r} is not one of foresight.hosts{nearest(netloc, set(self.hosts))}"
            raise ValueError(msg)
        if scheme == "http" and not host.private:
            msg = f"{where}: plain http only to a host with private: true"
            raise ValueError(msg)

    def check_models(self, chat: Collection[str]) -> None:
        """Raise ValueError for an action whose model there is not."""
        for name, action in self.actions.items():
            must_be_one_of(f"foresight.actions.{name}.model", action.model, set(chat))


def netloc_of(url: str) -> tuple[str, str]:
    """Scheme and host of a URL template. Raises ValueError unless both stand there as they are, and the rest can be read."""
    try:
        template = Template(url)
    except WrongTemplate as error:
        msg = f"url: {error}"
        raise ValueError(msg) from None
    head = urlsplit(template.head)
    if head.scheme not in {"https", "http"} or not head.netloc or "/" not in template.head[len(head.scheme) + 3 :]:
        msg = "url must begin with https://HOST/, the host without any {place}"
        raise ValueError(msg)
    if "@" in head.netloc or not _HOST.fullmatch(head.netloc) or "#" in url or not url.isascii() or not url.isprintable() or " " in url:
        msg = "url must be printable ASCII with the host in lower case, without user, fragment or blanks"
        raise ValueError(msg)
    return head.scheme, head.netloc
