"""What Farthing itself tells the bus: types and sources begin with `farthing.`. See docs/events.md."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from farthing.types.basic import Json, new_id
from farthing.types.caching import CacheScope
from farthing.types.events import OWN_EVENTS, Event
from farthing.types.feedback import Feedback
from farthing.types.jobs import INSTALLATION
from farthing.types.modes import Document


def own_event(noun: str, what: str, data: Json, at: datetime, *, tenant: str | None = None, **more: Any) -> Event:
    """The event `farthing.NOUN.WHAT` of a tenant, or (None) of the installation. `more`: its other attributes, such as an id."""
    return Event(
        **{"id": str(new_id()), **more},
        source=f"{OWN_EVENTS}{noun}",
        type=f"{OWN_EVENTS}{noun}.{what}",
        tenant=INSTALLATION if tenant is None else tenant,
        time=at,
        data=data,
        received_at=at,
    )


def document_event(written: Document, *, modes: str) -> Event:
    """A document that all workers agree on has a new version. Of the one called `modes` it is `farthing.mode.changed`."""
    noun = "mode" if written.name == modes else "config"
    data = {"document": written.name, "version": written.version, "by": written.by, "reason": written.reason, "body": written.body}
    return own_event(noun, "changed", data, written.at, id=f"{written.name}:{written.version}", subject=written.name)


def flush_event(tenant: str | None, scope: CacheScope, at: datetime) -> Event:
    """Somebody has deleted cached answers, of one tenant or (None) of all."""
    key = scope.answer_key.hex() if scope.answer_key is not None else None
    data = {"namespace": scope.namespace, "tag": scope.tag, "user": scope.user_id, "key": key}
    return own_event("cache", "flushed", data, at, tenant=tenant, user=scope.user_id)


def feedback_event(said: Feedback) -> Event:
    """Somebody has said something of an answer. No words are in it: who handles it reads them from the store."""
    data = {"request_id": str(said.request_id), "score": said.score, "corrected": said.correction is not None}
    more = {"id": str(said.id), "subject": str(said.request_id), "user": said.user}
    return own_event("feedback", "given", data, said.at, tenant=said.tenant, **more)
