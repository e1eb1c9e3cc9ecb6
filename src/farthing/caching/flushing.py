"""The handler `flush`: what an event has made untrue goes from the caches ("the returns policy has changed")."""

from __future__ import annotations

from collections.abc import Sequence

from farthing.events.handler import Handler
from farthing.ports import CacheControl
from farthing.settings import FlushOnSettings
from farthing.types import INSTALLATION, CacheScope, Event, Subscription

HANDLER = "flush"


class Flushing:
    """Deletes of the event's tenant what the settings say; of all tenants, where the event is the installation's own."""

    def __init__(self, control: CacheControl, rules: Sequence[FlushOnSettings]) -> None:
        self._control = control
        self._rules = [(Subscription(handler=HANDLER, types=tuple(rule.types)), _scopes(rule)) for rule in rules]

    async def handle(self, events: Sequence[Event]) -> None:
        """Flush. Doing it again does no harm. Raises the stores' errors."""
        wanted = {(event.tenant, scope) for event in events for wants, scopes in self._rules if wants.wants(event.type) for scope in scopes}
        for tenant, scope in wanted:
            await self._control.flush(None if tenant == INSTALLATION else tenant, scope)


def flush_handler(control: CacheControl, rules: Sequence[FlushOnSettings]) -> Handler | None:
    """None where no rule asks for it."""
    if not rules:
        return None
    types = tuple(sorted({one for rule in rules for one in rule.types}))
    return Handler(subscription=Subscription(handler=HANDLER, types=types), handle=Flushing(control, rules).handle)


def _scopes(rule: FlushOnSettings) -> list[CacheScope]:
    if not rule.tags:
        return [CacheScope(namespace=rule.namespace)]
    return [CacheScope(namespace=rule.namespace, tag=tag) for tag in rule.tags]
