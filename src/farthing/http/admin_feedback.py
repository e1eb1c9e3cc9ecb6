"""The admin doors to what people said of answers: list it, export it for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from farthing.cipher import CannotOpen
from farthing.errors import InvalidRequest
from farthing.http.admin_requests import Open
from farthing.http.admin_wire import guarded, json_response, known_parameters, limit_of, window
from farthing.ports import FeedbackStore, RetentionStore
from farthing.types import Feedback, Json, StoredTranscript, time_of, utc_now

_USUAL: Final = 50
_MOST: Final = 1000
_MOST_EXPORTED: Final = 100
"""Rows with their texts in one answer."""
_SWITCHES: Final = {"true": True, "false": False}

OpenFeedback = Callable[[Feedback], Feedback]
"""With texts that can be read; raises `CannotOpen`."""


class FeedbackDoors:
    """`opened` reads transcripts."""

    def __init__(self, store: FeedbackStore, open_: OpenFeedback, retention: RetentionStore, opened: Open) -> None:
        self._store = store
        self._open = open_
        self._retention = retention
        self._opened = opened

    def routes(self) -> list[Route]:
        """For the application."""
        return [
            Route("/admin/v1/feedback", guarded(self._list), methods=["GET"]),
            Route("/admin/v1/feedback/export", guarded(self._export), methods=["GET"]),
        ]

    async def _list(self, request: Request) -> Response:
        page = await self._page(request.query_params, usual=_USUAL, most=_MOST)
        return json_response(_answer([self._shown(one) for one in page[0]], *page))

    async def _export(self, request: Request) -> Response:
        page = await self._page(request.query_params, usual=_MOST_EXPORTED, most=_MOST_EXPORTED)
        return json_response(_answer([await self._row(one) for one in page[0]], *page))

    async def _page(self, query: Mapping[str, str], *, usual: int, most: int) -> tuple[Sequence[Feedback], bool]:
        """What is asked for, newest first, and whether there is more."""
        known_parameters(query, "tenant", "since", "corrected", "limit", "before")
        limit, tenant = limit_of(query, usual=usual, most=most), query.get("tenant")
        if tenant is not None and "\0" in tenant:
            raise InvalidRequest("tenant holds a NUL character", param="tenant")
        corrected = _SWITCHES.get(query.get("corrected", "false"))
        if corrected is None:
            raise InvalidRequest("corrected must be true or false", param="corrected")
        since: datetime | None = window(query, utc_now())[0] if "since" in query else None
        found = await self._store.latest(tenant=tenant, limit=limit + 1, before=_place(query), corrected=corrected)
        wanted = [one for one in found if since is None or time_of(one.id) >= since]
        return wanted[:limit], len(wanted) > limit

    def _shown(self, one: Feedback) -> Json:
        about: Json = {
            "id": one.id,
            "request_id": one.request_id,
            "tenant": one.tenant,
            "user": one.user,
            "at": one.at,
            "by": one.by,
            "score": one.score,
        }
        try:
            read = self._open(one)
        except CannotOpen as error:
            problem = f"the texts cannot be read: {error}; put the key they were sealed with into retention.old_encryption_keys"
            return {**about, "correction": None, "reason": None, "problem": problem}
        return {**about, "correction": read.correction, "reason": read.reason}

    async def _row(self, one: Feedback) -> Json:
        """What training needs of it. Prompt and answer are there where the tenant has its texts kept."""
        kept = await self._retention.get(one.request_id)
        texts = self._texts(kept) if kept is not None and kept.tenant == one.tenant else {}
        return {**self._shown(one), "model": kept.model if kept else None, "messages": None, "answer": None, **texts}

    def _texts(self, kept: StoredTranscript) -> Json:
        try:
            transcript: Any = self._opened(kept)
        except CannotOpen:
            return {}
        return {"messages": _messages(transcript["request"]), "answer": _said(transcript["answer"])}


def _messages(asked: Any) -> list[Any] | None:
    """None for a request that was too long to keep whole, or has none."""
    messages = asked.get("messages") if isinstance(asked, dict) else None
    return messages if isinstance(messages, list) else None


def _said(answer: Any) -> str | None:
    """What the answer says; None where it is not one text, or not whole."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1:
        return None
    content = choices[0].get("message", {}).get("content")
    return content if isinstance(content, str) else None


def _place(query: Mapping[str, str]) -> UUID | None:
    try:
        return UUID(query["before"]) if "before" in query else None
    except ValueError:
        raise InvalidRequest("before: what the page before this one has as `next`", param="before") from None


def _answer(rows: Sequence[Json], page: Sequence[Feedback], more: bool) -> Json:  # noqa: FBT001 - what `_page` found
    return {"object": "list", "data": rows, "has_more": more, "next": page[-1].id if more else None}
