"""Answers to actions: from what a model said, and as what a client is told. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from farthing.foresight.action import Action
from farthing.pipeline.message import text_of
from farthing.types import EdgeAnswer, Json, Usage, new_id

_ENDS = {"text": frozenset({"stop", "length"}), "json": frozenset({"stop"})}


def said(action: Action, completion: Json) -> Json | None:
    """What is kept of a model's answer (see `EdgeAnswer.body`). None: it is no answer to the action: empty, refused, cut, or not JSON."""
    choices = completion.get("choices") or [{}]
    message, ended = choices[0].get("message") or {}, choices[0].get("finish_reason")
    content = text_of(message.get("content"))
    form = action.settings.answer
    if not content.strip() or message.get("refusal") or ended not in _ENDS[form] or (form == "json" and not _is_json(content)):
        return None
    usage = Usage.of(completion.get("usage")) or Usage()
    return {"content": content, "format": form, "finish_reason": ended, "usage": usage.as_openai()}


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def edge_answer(
    action: Action, tenant: str, user: str, body: Json, *, model: str, versions: dict[str, int], request_id: UUID, now: datetime, cost: int
) -> EdgeAnswer:
    """An answer to keep, as long as the action says."""
    return EdgeAnswer(
        tenant=tenant,
        user=user,
        action=action.name,
        body=body,
        model=model,
        versions=versions,
        request_id=request_id,
        made_at=now,
        expires_at=now + timedelta(seconds=action.settings.ttl_s),
        cost_microusd=cost,
    )


def completion_of(answer: EdgeAnswer) -> Json:
    """A kept answer as OpenAI's `chat.completion`."""
    message = {"role": "assistant", "content": answer.body["content"], "refusal": None}
    return {
        "id": f"chatcmpl-{new_id().hex}",
        "object": "chat.completion",
        "created": int(answer.made_at.timestamp()),
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.body.get("finish_reason", "stop")}],
        "usage": answer.body.get("usage"),
    }


def size_of(body: Json) -> int:
    """Bytes of what is kept."""
    return len(msgspec.json.encode(body))
