"""Events that make cached answers untrue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from farthing.caching.control import Control
from farthing.caching.flushing import flush_handler
from farthing.errors import Unavailable
from farthing.settings import CacheSettings
from farthing.types import INSTALLATION, CacheScope, Event, Json


class Caches(Control):
    """A cache that writes down what it is told to delete."""

    def __init__(self) -> None:
        self.flushed: list[tuple[str | None, CacheScope]] = []
        self.away = False

    async def flush(self, tenant: str | None, scope: CacheScope) -> Json:
        if self.away:
            raise Unavailable("away")
        self.flushed.append((tenant, scope))
        return {}


def event(kind: str, tenant: str = "acme") -> Event:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Event(id="1", source="app", type=kind, tenant=tenant, time=now, received_at=now)


def rules(*some: Json) -> Any:
    return CacheSettings.model_validate({"flush_on": list(some)}).flush_on


async def test_an_event_flushes_what_the_settings_say_of_its_tenant() -> None:
    caches = Caches()
    handler = flush_handler(
        caches,
        rules({"types": ["policy.changed", "shop.*"], "namespace": "docs", "tags": ["returns", "shipping"]}, {"types": ["price.changed"]}),
    )
    assert handler is not None
    assert handler.subscription.handler == "flush"
    assert set(handler.subscription.types) == {"policy.changed", "shop.*", "price.changed"}
    await handler.handle([event("shop.opened")])
    assert sorted(caches.flushed, key=repr) == [("acme", CacheScope(namespace="docs", tag=tag)) for tag in ("returns", "shipping")]
    caches.flushed.clear()
    await handler.handle([event("price.changed"), event("price.changed"), event("price.changed", INSTALLATION), event("other")])
    assert sorted(caches.flushed, key=repr) == [("acme", CacheScope()), (None, CacheScope())]


async def test_a_store_that_is_away_makes_the_event_come_again() -> None:
    caches = Caches()
    handler = flush_handler(caches, rules({"types": ["*"]}))
    assert handler is not None
    caches.away = True
    with pytest.raises(Unavailable):
        await handler.handle([event("x")])


def test_without_rules_there_is_no_handler() -> None:
    assert flush_handler(Caches(), ()) is None


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"types": []},
        {"types": [""]},
        {"types": ["a b"]},
        {"types": ["a*"]},
        {"types": ["x"], "namespace": "a\nb"},
        {"types": ["x"], "tags": [""]},
    ],
)
def test_a_rule_that_means_nothing_is_refused(rule: Json) -> None:
    with pytest.raises(ValidationError):
        rules(rule)
