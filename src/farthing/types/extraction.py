"""How facts are read out of events. See `types`."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """An event that fits a rule which counts. `event` is its name, `source#id`; each counts once by rule.

    `group` stands for what must be the same in events that are counted together. `at` is when it happened, `arrived` when we heard of it.
    """

    tenant: str
    user: str
    rule: str
    group: bytes
    event: str
    at: datetime
    arrived: datetime


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What may be spent on reading events in a UTC day (micro-dollars), and how often may be asked."""

    user_microusd: int
    tenant_microusd: int
    user_calls: int
