"""The section on the caches."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from farthing.settings.basic import Count, Seconds, Section

Share = Annotated[float, Field(ge=0, le=1)]
Delta = Annotated[float, Field(ge=0, le=0.2)]
_NAMESPACE = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


class ExactCacheSettings(Section):
    """The exact cache. See docs/cache.md for what is part of its key."""

    enabled: bool = True
    ttl_s: Annotated[float, Field(gt=0, le=31_536_000)] = 86_400
    stale_s: Annotated[float, Field(ge=0, le=31_536_000)] = 0
    """How long after that an answer may still be given, while a new one is asked for in the background."""
    max_temperature: Annotated[float, Field(ge=0, le=2)] = 2
    """Requests hotter than this are not cached; a request that names no temperature counts as 1."""
    max_bytes: Count = 16 * 2**20
    """Answers kept in a worker's memory."""
    max_entry_bytes: Count = 2**20
    max_chunks: Count = 20_000
    """A stream of more chunks is not kept."""
    follow_timeout_s: Seconds = 60
    """How long a request waits for an identical one that is under way, before it asks the model itself."""
    max_rows: Count = 200_000
    """Answers kept in PostgreSQL."""
    max_known_keys: Count = 100_000
    """Keys of answers in PostgreSQL that a worker remembers; a miss among them asks nobody."""
    read_timeout_s: Seconds = 0.1
    write_queue: Count = 2048
    """Answers that wait to be written to PostgreSQL. When it is full, new ones stay in this worker's memory only."""
    write_rate: Count = 100
    """Answers a second that a worker writes to PostgreSQL at most: under a flood of new questions the database is not the victim."""


class JudgeSettings(Section):
    """Looking again, after the answer, whether two questions that were nearly taken for one ask for the same."""

    model: str | None = None
    """A cheap chat model of the catalogue that says whether two questions ask for the same. None: nobody is asked."""
    band: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Asked about are near misses that are at least so probably the same."""
    per_minute: Annotated[int, Field(ge=0, le=100_000)] = 60
    """Calls of one worker at most."""
    timeout_s: Seconds = 20


class ShadowSettings(Section):
    """Sending a few hits to the model all the same, to see whether the cached answer was right."""

    share: Share = 0.02
    """Of the hits, and of what they save: shadow calls cost no more than this share of the savings."""
    alike: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Without a judge: two answers whose embeddings are so near say the same."""
    unlike: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Without a judge: two answers that are farther apart than this say different things. In between nothing is concluded."""


class RecalibrationSettings(Section):
    """What `farthing cache tune` has made of one's own questions: it prints this section."""

    base: float
    slope: Annotated[float, Field(gt=0, le=100)]
    adds: dict[str, float] = {}
    thresholds: Annotated[dict[Annotated[float, Field(gt=0, le=1)], float], Field(min_length=1)]
    """Log-odds from which a question is taken for the same, by error bound."""


class SemanticCacheSettings(Section):
    """The semantic cache: answers to questions that were asked before in other words. See docs/semantic-cache.md."""

    enabled: bool = True
    delta: Delta = 0.01
    """At most this share of the answers that it gives may be wrong."""
    backend: Literal["postgres", "redis"] = "postgres"
    """Where questions are found. `redis` needs the section redis."""
    max_temperature: Annotated[float, Field(ge=0, le=2)] = 1
    """Requests hotter than this want variety; a request that names no temperature counts as 1."""
    max_chars: Annotated[int, Field(ge=8, le=4000)] = 1000
    """A longer question is not compared."""
    neighbours: Annotated[int, Field(ge=1, le=16)] = 3
    """Candidates that are looked at."""
    max_entries: Count = 50_000
    max_bytes: Count = 64 * 2**20
    """Questions kept in a worker's memory. Beyond either, those that are worth least go."""
    max_rows: Count = 1_000_000
    """Questions kept in PostgreSQL or Redis."""
    rate: Annotated[float, Field(ge=1, le=1_000_000)] = 200
    """Short questions a second that a worker embeds at most, 4 ms of a core each (a long one counts as several); further requests go to
    the model at once."""
    idle_rate: Annotated[float, Field(ge=1, le=1_000_000)] = 10
    """The same for traffic (by tenant, namespace and model) in which fewer than `min_hit_rate` of the questions hit."""
    min_hit_rate: Annotated[float, Field(ge=0, le=1)] = 0.01
    encode_timeout_s: Seconds = 0.1
    """How long a request waits for its question to be embedded; then it goes to the model."""
    search_timeout_s: Seconds = 0.05
    """How long it waits for candidates that are not in the worker's memory."""
    max_waiting: Annotated[int, Field(ge=1, le=10_000)] = 32
    """Requests of one worker that wait for either; further ones go to the model at once."""
    write_queue: Count = 2048
    """Questions that wait to be stored. When it is full, new ones are dropped and counted."""
    max_records: Count = 1_000_000
    """Hits and verdicts that are remembered, each."""
    recalibration: RecalibrationSettings | None = None
    judge: JudgeSettings = JudgeSettings()
    shadow: ShadowSettings = ShadowSettings()


class NamespaceSettings(Section):
    """What is different in one namespace. What is not named is as in `cache.exact` and `cache.semantic`."""

    ttl_s: Annotated[float, Field(gt=0, le=31_536_000)] | None = None
    stale_s: Annotated[float, Field(ge=0, le=31_536_000)] | None = None
    delta: Delta | None = None
    semantic: bool | None = None
    personal: Literal["auto", "never", "always"] = "auto"
    """Who may share a cached question: everybody unless it is personal (`auto`), everybody (`never`), each user alone (`always`)."""


class FlushOnSettings(Section):
    """Events after which cached answers are not true any more: those of the event's tenant, in a namespace, or with one of the tags."""

    types: Annotated[list[Annotated[str, Field(pattern=r"^(?:\*|[^\s*]{1,256}|[^\s*]{1,254}\.\*)$")]], Field(min_length=1, max_length=100)]
    """Exact types, or `order.*` for all that begin so."""
    namespace: Annotated[str, Field(pattern=rf"^{_NAMESPACE.pattern}$")] | None = None
    """Without it, all namespaces."""
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=100)] = []
    """Only answers to requests with one of these tags; without any, all."""


class CacheSettings(Section):
    """The caches."""

    exact: ExactCacheSettings = ExactCacheSettings()
    semantic: SemanticCacheSettings = SemanticCacheSettings()
    namespaces: dict[str, NamespaceSettings] = {}
    flush_on: Annotated[list[FlushOnSettings], Field(max_length=1000)] = []

    @field_validator("namespaces")
    @classmethod
    def _can_be_named(cls, value: dict[str, NamespaceSettings]) -> dict[str, NamespaceSettings]:
        for name in value:
            if not _NAMESPACE.fullmatch(name):
                msg = f"{name[:64]!r}: a namespace has 1 to 256 printable characters"
                raise ValueError(msg)
        return value

    def namespace(self, name: str) -> NamespaceSettings:
        """What is different in a namespace."""
        return self.namespaces.get(name, _AS_ELSEWHERE)


_AS_ELSEWHERE = NamespaceSettings()
