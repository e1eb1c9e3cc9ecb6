"""What a model is shown of an event: what the user said or did, without what others said, and without what must not be learnt. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from farthing.memory.claims import plain, without_claims, without_questions
from farthing.memory.scrubbing import Scrubber
from farthing.memory.validation import Said
from farthing.settings import MemorySettings
from farthing.settings.memory_rules import covers_type
from farthing.types import Event

CHAT_TURN: Final = "farthing.chat.turn"
"""A turn of a chat that went through us. `data`: `text`, `role`, `conversation`, `request_id`, `key_id`."""
_OURS: Final = "farthing."
_INJECTED: Final = re.compile(r"<(memory|facts|recalled|known_facts|turns)\b[^<>]{0,200}>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
"""What recall puts into a conversation, and a client may send back."""
_ELISION: Final = "\n[…]\n"
_DEEPEST: Final = 8
_USERS: Final = frozenset({"user", "human", "customer"})
_HIDDEN: Final = frozenset({"conversation", "request_id", "key_id", "role", "id", "assistant", "completion", "answer", "reply", "response"})
"""Fields of data that are no user's words: what names things, and what was answered."""


class Reading:
    """Reads events for a model. `removed` counts the sentences that instruct or speak of others."""

    def __init__(self, settings: MemorySettings) -> None:
        self._types = settings.extractor.types
        self._structured = settings.extractor.structured
        self._most = settings.extractor.max_turn_chars
        self._scrub = Scrubber(personal=settings.personal_data == "scrub")
        self.removed = 0

    def wants(self, event: Event) -> bool:
        """Whether a model is asked about events of this type at all."""
        if event.type.startswith(_OURS) and event.type != CHAT_TURN:
            return False
        return any(covers_type(one, event.type) for one in self._types) and not any(
            covers_type(one, event.type) for one in self._structured
        )

    def __call__(self, event: Event) -> Said | None:
        """What is shown; None when there is nothing of the user's in it."""
        text = _shortened(_INJECTED.sub(" ", _words(event)), self._most)
        text, removed = without_claims(without_questions(plain(text)))
        self.removed += removed
        text = self._scrub(text).text.strip()
        return Said(event=event, text=text) if text else None


def _words(event: Event) -> str:
    """The user's words as text; the data of an event that is not a turn as JSON."""
    data = event.data
    if isinstance(data, str):
        return data
    if not isinstance(data, dict | list):
        return ""
    if isinstance(data, dict):
        if not _is_users(data):
            return ""
        if isinstance(data.get("text"), str):
            return str(data["text"])
        if event.type == CHAT_TURN:
            return ""
    kept = _users_part(data, _DEEPEST)
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":")) if kept else ""  # takes half surrogate pairs, too


def _is_users(data: dict[str, Any]) -> bool:
    """Whether what has a role has the user's."""
    return "role" not in data or (isinstance(data["role"], str) and data["role"].casefold() in _USERS)


def _users_part(data: Any, depth: int) -> Any:
    """The data without messages of others, without what is no user's words, and without what is nested deeper than anybody writes."""
    if depth == 0:
        return None
    if isinstance(data, dict):
        if not _is_users(data):
            return None
        kept = {name: _users_part(value, depth - 1) for name, value in data.items() if name.casefold() not in _HIDDEN}
        return {name: value for name, value in kept.items() if value is not None}
    if isinstance(data, list):
        return [value for value in (_users_part(item, depth - 1) for item in data) if value is not None]
    return data


def _shortened(text: str, most: int) -> str:
    text = text.strip()
    return text if len(text) <= most else f"{text[: most // 2]}{_ELISION}{text[-(most // 2) :]}"
