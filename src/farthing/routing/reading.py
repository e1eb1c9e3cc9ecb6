"""What rules look at in a request. Each fact is found out when it is first asked for, and once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import cached_property
from typing import Any

from farthing.pipeline.message import text_of
from farthing.pipeline.tokens import count_request
from farthing.routing.fitting import needed_tokens
from farthing.routing.language import language_of
from farthing.types import Json, Request

_DAY_MINUTES = 24 * 60
_FORMATS = frozenset({"text", "json_object", "json_schema"})


class Reading:
    """A request as rules see it. `clock` says what time it is."""

    def __init__(self, request: Request, clock: Callable[[], datetime]) -> None:
        self.request = request
        self._clock = clock

    @cached_property
    def at(self) -> datetime:
        """When it is."""
        return self._clock()

    @cached_property
    def tokens(self) -> int:
        """About how many tokens it has."""
        return count_request(self.request.body)

    @cached_property
    def needed(self) -> int:
        """About how many tokens of context it needs, with the answer that it allows."""
        return needed_tokens(self.request.body)

    @cached_property
    def messages(self) -> list[Json]:
        """Its messages. What is no message is left out."""
        messages = self.request.body.get("messages")
        return [one for one in messages if isinstance(one, dict)] if isinstance(messages, list) else []

    @cached_property
    def turns(self) -> int:
        """How many messages are a user's."""
        return sum(message.get("role") == "user" for message in self.messages)

    @cached_property
    def tools(self) -> bool:
        """Whether it offers tools."""
        body = self.request.body
        return bool(body.get("tools") or body.get("functions"))

    @cached_property
    def images(self) -> bool:
        """Whether there is an image in any message."""
        return any(
            isinstance(part, dict) and part.get("type") == "image_url"
            for message in self.messages
            if isinstance(message.get("content"), list)
            for part in message["content"]
        )

    @cached_property
    def response_format(self) -> str:
        """The format that it wants the answer in: `text` unless it says so."""
        wanted: Any = self.request.body.get("response_format")
        kind = wanted.get("type") if isinstance(wanted, dict) else None
        return kind if isinstance(kind, str) and kind in _FORMATS else "text"

    @cached_property
    def text(self) -> str:
        """The text of the last user message; empty when there is none."""
        return next((text_of(message.get("content")) for message in reversed(self.messages) if message.get("role") == "user"), "")

    @cached_property
    def language(self) -> str | None:
        """The language of that text, as far as it can be told."""
        return language_of(self.text)

    def minute(self, zone: tzinfo) -> int:
        """The minute of the week, there. 0 is Monday 00:00."""
        there = self.at.astimezone(zone)
        return there.weekday() * _DAY_MINUTES + there.hour * 60 + there.minute
