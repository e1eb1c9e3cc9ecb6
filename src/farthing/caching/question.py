"""What a request asks, apart from everything around it: the text that may be compared, and the partition in which it may be.

A question is compared only with questions of the same partition. In it: tenant, namespace, the user where the question is personal, the
model asked for and what the settings map it to, the version of the embedder, and the whole body but for the text of the last user turn
and what `keys.OUT` leaves out. So the system prompt, earlier turns, tools, response format and sampling must be equal, byte for byte; a
follow-up of one conversation never answers one of another.

Questions that were answered in a worse mode than the best one are in a partition of that mode. Asked in such a mode, those answered in
the best one may be compared, too.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Any

import msgspec

from farthing.caching.keys import OUT, in_mode, temperature
from farthing.caching.personal import is_personal
from farthing.ports import Encoded
from farthing.settings import CacheSettings
from farthing.types import ANSWER, Json, Operation, Request

_encode = msgspec.json.Encoder(order="deterministic").encode
_SHORTEST = 3
_ASKED_BY_SOMEBODY = frozenset({ANSWER, "refresh"})
_ORDERS_TO_THE_CACHE = re.compile(
    r"\b(?:ignore|disregard|forget|bypass|skip|override)\b[^.?!\n]{0,40}\b(?:cached?|caching|previous|prior|above|earlier|instructions?)\b",
    re.IGNORECASE,
)


class Asked(msgspec.Struct, kw_only=True):
    """A question that may be compared. `user_id` is set where only that user's own questions count. `encoded` comes when it was needed.

    `asker` is on whose behalf it is asked, whoever's questions count: what is kept of it is forgotten with him.

    `better` is a partition whose questions may be compared, too, but to which this one does not belong.
    """

    text: str
    partition: bytes
    better: bytes | None = None
    user_id: str | None
    asker: str | None = None
    delta: float
    encoded: Encoded | None = None


class Unfit(msgspec.Struct, frozen=True):
    """Why a request is not for the semantic cache, in words for `farthing cache explain`."""

    why: str


def question_of(request: Request, settings: CacheSettings, embedder: str) -> Asked | Unfit:
    """What a request asks. `embedder` is the embedder's version. Pure."""
    own = settings.namespace(request.extras.namespace)
    semantic = settings.semantic
    if own.semantic is False:
        return Unfit(f"the namespace {request.extras.namespace!r} has no semantic cache (setting cache.namespaces)")
    unfit = _unfit(request, semantic.max_temperature)
    if unfit is not None:
        return Unfit(unfit)
    messages = request.body["messages"]
    found = _text_of(messages[-1])
    if isinstance(found, Unfit):
        return found
    text, rest = found
    unfit = _unreadable(text, semantic.max_chars)
    if unfit is not None:
        return Unfit(unfit)
    user_id = None
    if own.personal == "always" or (own.personal == "auto" and _is_personal(request, text)):
        user_id = request.user
        if user_id is None:
            return Unfit("it is personal, and whose it is was not said (farthing.user, or a key made for a user)")
    best = _partition(request, rest, user_id, embedder)
    delta = semantic.delta if own.delta is None else own.delta
    return Asked(
        text=text,
        partition=in_mode(best, request),
        better=best if request.mode.rank else None,
        user_id=user_id,
        asker=request.user,
        delta=max(delta, request.mode.cache_delta or 0.0),
    )


def _unfit(request: Request, max_temperature: float) -> str | None:
    body = request.body
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    reasons = (
        (request.purpose not in _ASKED_BY_SOMEBODY, "it is a question of our own"),
        (request.operation is not Operation.CHAT, "it is not a chat"),
        (
            temperature(request) > max_temperature,
            f"its temperature is above {max_temperature:g} (setting cache.semantic.max_temperature): it wants variety",
        ),
        (body.get("tools") or body.get("functions"), "it offers tools: what a model does with them hangs on every word"),
        (body.get("n") not in (None, 1), "it asks for several answers"),
        (body.get("modalities") not in (None, ["text"]) or body.get("audio"), "it asks for more than text"),
        (body.get("prediction"), "it brings the text that it wants to have changed"),
        (not isinstance(last, dict) or last.get("role") != "user", "its last message is not a user's"),
    )
    return next((why for holds, why in reasons if holds), None)


def _text_of(message: Json) -> tuple[str, Json] | Unfit:
    """The text of a message, and the message without it."""
    content = message.get("content")
    if isinstance(content, str):
        return content, {**message, "content": None}
    parts = content if isinstance(content, list) else []
    if len(parts) != 1 or not isinstance(parts[0], dict) or parts[0].get("type") != "text" or not isinstance(parts[0].get("text"), str):
        return Unfit("its last message is not one text")
    return parts[0]["text"], {**message, "content": [{**parts[0], "text": None}]}


def _unreadable(text: str, most: int) -> str | None:
    if len(text) > most:
        return f"the question has more than {most} characters (setting cache.semantic.max_chars)"
    if sum(map(str.isalnum, text)) < _SHORTEST:
        return "the question has hardly a letter in it"
    if any(unicodedata.category(character) in {"Cc", "Cs"} and character not in "\n\r\t" for character in text):
        return "the question has control characters in it"
    if _ORDERS_TO_THE_CACHE.search(text):
        return "the question gives orders about what came before or about the cache"
    return None


def _is_personal(request: Request, text: str) -> bool:
    extras = request.extras
    if extras.personal is not None:
        return extras.personal
    mixed_in: tuple[Any, ...] = (extras.memory, extras.knowledge)
    return any(given not in (None, False, "off") for given in mixed_in) or is_personal(text)


def _partition(request: Request, last: Json, user_id: str | None, embedder: str) -> bytes:
    """32 bytes. Parts are length-prefixed by JSON's own quoting, so that no two different contexts run together."""
    body = {name: value for name, value in request.body.items() if name not in OUT and value is not None}
    body["messages"] = [*request.body["messages"][:-1], last]
    who = (request.principal.tenant, request.extras.namespace, user_id)
    parts = (who, request.model, request.fingerprint, embedder, body)
    return hashlib.sha256(_encode(parts if request.prompt_version is None else (*parts, request.prompt_version))).digest()
