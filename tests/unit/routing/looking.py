"""Answers to look at, and how to look."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from farthing.routing.checks.check import Answered, Check
from farthing.routing.checks.compile import KINDS, CheckDeps, compile_checks
from farthing.routing.checks.judge import Ask
from farthing.routing.checks.placed import Undecided
from farthing.routing.checks.validator import ValidatorProcess
from farthing.settings import AnyCheckSettings
from farthing.types import Answer, Extras, Json, Lifeline, Operation, Principal, Request, new_id


def request(body: Json | None = None) -> Request:
    return Request(
        id=new_id(),
        principal=Principal(key_id=UUID(int=1), tenant="acme"),
        operation=Operation.CHAT,
        body={"messages": [{"role": "user", "content": "Hi"}]} if body is None else body,
        model="auto",
        extras=Extras(),
        started_ns=0,
        lifeline=Lifeline(None),
    )


def completion(*texts: str | None, finish: str | None = "stop", usage: Json | None = None, **message: Any) -> Json:
    """A completion with a choice for each text."""
    choices = [
        {"index": at, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
        for at, text in enumerate(texts)
    ]
    return {"object": "chat.completion", "choices": choices, **({"usage": usage} if usage else {})}


def calling(name: str, arguments: Any, text: str | None = None) -> Json:
    """A completion that calls a tool."""
    return completion(
        text, finish="tool_calls", tool_calls=[{"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}]
    )


def answered(body: Json, asked: Json | None = None, *, whole: bool = True, model: str = "weak") -> Answered:
    return Answered(request=request(asked), model=model, body=body, whole=whole)


async def nobody(_request: Request, _timeout_s: float) -> Answer | None:
    """A judge that is away."""
    return None


def no_process(entry_point: str, memory_mb: int) -> ValidatorProcess:
    return ValidatorProcess(entry_point, memory_mb)


def check(settings: AnyCheckSettings, undecided: Undecided | None = None, ask: Ask = nobody) -> Check:
    deps = CheckDeps(undecided=undecided or Undecided(KINDS), ask=ask, process=no_process)
    (made,) = compile_checks([settings], deps)
    return made
