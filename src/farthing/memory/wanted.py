"""What a request wants of memory: by its extras, else by the settings. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from farthing.errors import InvalidRequest
from farthing.pipeline.history import INSTRUCTIONS, role_of
from farthing.pipeline.message import text_of
from farthing.settings.memory_recall import RecallSettings
from farthing.types import ANSWER, Json, Operation, Request

Mode = Literal["off", "facts", "facts+windows"]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """`mode` is what is to be put in. `conversation` is the one to go on with; None: the client keeps it.

    `question` is the text of the user's last turn, empty where there is none. `keeps`: turns may be stored, and told.
    """

    mode: Mode
    tenant: str
    user: str | None
    conversation: str | None
    question: str
    keeps: bool

    @property
    def windows(self) -> bool:
        """Whether turns of all of the user's conversations are wanted."""
        return self.mode == "facts+windows"

    @property
    def remembered(self) -> bool:
        """Whether its turns are to be stored."""
        return self.keeps and bool(self.question.strip()) and (self.conversation is not None or self.windows)


def wanted_of(request: Request, settings: RecallSettings) -> Wanted | None:
    """None: nothing, which is usual. Raises `InvalidRequest` for what cannot be."""
    extras = request.extras
    if request.purpose != ANSWER:
        return None
    if request.operation is not Operation.CHAT:
        _refuse_what_is_for_chats(request)
        return None
    mode = _mode(extras.memory, settings)
    user = request.user
    if mode != "off" and user is None:
        if extras.memory is not None:
            raise InvalidRequest(
                "farthing.memory: whose memory? Name the user (farthing.user, or a key made for a user), or turn it off (memory: off)",
                param="farthing.memory",
            )
        mode = "off"
    if mode == "off" and extras.conversation_id is None:
        return None
    return Wanted(
        mode=mode,
        tenant=request.principal.tenant,
        user=user,
        conversation=extras.conversation_id,
        question=question_of(request.body),
        keeps=extras.store and request.body.get("store") is not False,
    )


def _refuse_what_is_for_chats(request: Request) -> None:
    for name in ("memory", "conversation_id"):
        if getattr(request.extras, name) not in (None, False, "off"):
            raise InvalidRequest(f"farthing.{name} is for chats, not for {request.operation}", param=f"farthing.{name}")


def _mode(asked: object, settings: RecallSettings) -> Mode:
    if asked in (False, "off"):
        return "off"
    if asked in (True, "on"):
        return "facts" if settings.default == "off" else settings.default
    return "facts+windows" if asked == "facts+windows" else "facts" if asked == "facts" else settings.default


def question_of(body: Json) -> str:
    """The text of the user's last turn: its messages in a row are one."""
    found: list[str] = []
    for message in reversed(_messages(body)):
        if role_of(message) == "user":
            found.append(text_of(message.get("content")))
        elif found:
            break
    return "\n".join(reversed(found))


def keeps_its_own_history(body: Json) -> bool:
    """Whether a client sends earlier answers along: then it keeps the conversation, and ours is not put in beside it.

    An answer that only calls tools, or comes right before a tool's result, belongs to the turn that is under way.
    """
    for at, message in enumerate(messages := _messages(body)):
        following = messages[at + 1 :]
        if role_of(message) == "assistant" and role_of(next(iter(following), None)) == "user":
            return True
    return False


def leading(messages: list[Any]) -> int:
    """How many messages before the conversation are instructions."""
    return next((at for at, message in enumerate(messages) if role_of(message) not in INSTRUCTIONS), len(messages))


def _messages(body: Json) -> list[Any]:
    messages = body.get("messages")
    return messages if isinstance(messages, list) else []
