"""Events for tests of extraction."""

from datetime import UTC, datetime, timedelta
from typing import Any

from farthing.memory.validation import Said
from farthing.types import Event

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def event(number: int = 1, type_: str = "note.written", data: Any = None, *, at_s: float = 0, **facts: Any) -> Event:
    """One that happened so many seconds after noon, and arrived at once."""
    at = NOON + timedelta(seconds=at_s)
    usual = {"id": str(number), "source": "app", "type": type_, "tenant": "acme", "user": "ann", "data": data}
    return Event(**{**usual, "time": at, "received_at": at, **facts})


def turn(number: int, text: str, *, at_s: float = 0, **facts: Any) -> Event:
    """A user's turn of a chat."""
    return event(number, "farthing.chat.turn", {"text": text, "role": "user", "conversation": "c1"}, at_s=at_s, **facts)


def said(*texts: str) -> list[Said]:
    """Turns as a model is shown them, a second apart."""
    return [Said(event=turn(number, text, at_s=number), text=text) for number, text in enumerate(texts, 1)]
