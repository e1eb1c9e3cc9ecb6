"""The response object: what was asked, and what came of it. Pure.

Every field that OpenAI requires is there, with its documented default where the caller said nothing.
"""

from __future__ import annotations

import time
from uuid import UUID

import msgspec

from farthing.http.responses.body import ResponsesBody, ResponseTool
from farthing.http.responses.items import ItemIds, response_name
from farthing.http.responses.output import Event, Output
from farthing.types import Json, Usage

_FAILURES = {"rate_limit_exceeded": "rate_limit_exceeded"}


class Draft:
    """A response that is being made. `began` are the events before, `add` those of each chunk, and `finish` and `fail` those of its end."""

    def __init__(self, request_id: UUID, typed: ResponsesBody, ids: ItemIds, *, store: bool) -> None:
        summary = typed.reasoning and (typed.reasoning.summary or typed.reasoning.generate_summary)
        self.response = _skeleton(request_id, typed, store=store)
        self._output = Output(ids, summarise=bool(summary))
        self._begun = False

    def add(self, chunk: Json) -> list[Event]:
        """Take in a chunk. Before its first events come those of the beginning."""
        self._note(chunk)
        events = self._begin()
        for choice in chunk["choices"]:
            if choice["index"] == 0:
                events += self._output.add(choice)
        return events

    def add_whole(self, body: Json) -> None:
        """Take in a whole chat completion as one chunk."""
        message = dict(body["choices"][0]["message"])
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            message["tool_calls"] = [{**call, "index": at} for at, call in enumerate(calls) if isinstance(call, dict)]
        self._note(body)
        self._output.add({**body["choices"][0], "delta": message})

    def finish(self, usage: Json | None) -> list[Event]:
        """The end. The events do not hold the last one, which holds the response: see `last`."""
        events = [*self._begin(), *self._output.finish()]
        why = self._output.incomplete
        self.response |= {
            "status": "incomplete" if why else "completed",
            "completed_at": None if why else int(time.time()),
            "incomplete_details": {"reason": why} if why else None,
            "output": self._output.items,
            "usage": _usage(usage),
        }
        return events

    def last(self) -> Event:
        """The last event of a response that has finished."""
        return f"response.{self.response['status']}", {"response": self.response}

    def fail(self, code: str, message: str) -> list[Event]:
        """The events of an end by failure."""
        events = self._begin()
        error = {"code": _FAILURES.get(code, "server_error"), "message": message}
        self.response |= {"status": "failed", "error": error, "output": self._output.items}
        return [*events, ("response.failed", {"response": self.response})]

    def _begin(self) -> list[Event]:
        if self._begun:
            return []
        self._begun = True
        begun = dict(self.response)  # as it is now: what is told of an empty stream is written when it has ended
        return [(f"response.{what}", {"response": begun}) for what in ("created", "in_progress")]

    def _note(self, head: Json) -> None:
        for name in ("model", "service_tier"):
            if isinstance(head.get(name), str):
                self.response[name] = head[name]


def _skeleton(request_id: UUID, typed: ResponsesBody, *, store: bool) -> Json:
    return {
        "id": response_name(request_id),
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "frequency_penalty": typed.frequency_penalty or 0,
        "incomplete_details": None,
        "instructions": typed.instructions,
        "max_output_tokens": typed.max_output_tokens,
        "max_tool_calls": typed.max_tool_calls,
        "model": typed.model,
        "output": [],
        "parallel_tool_calls": typed.parallel_tool_calls is not False,
        "presence_penalty": typed.presence_penalty or 0,
        "previous_response_id": typed.previous_response_id,
        "prompt_cache_key": typed.prompt_cache_key,
        "reasoning": _reasoning(typed),
        "safety_identifier": typed.safety_identifier,
        "service_tier": typed.service_tier or "default",
        "store": store,
        "temperature": 1.0 if typed.temperature is None else typed.temperature,
        "text": _text(typed),
        "tool_choice": typed.tool_choice or "auto",
        "tools": [_tool(tool) for tool in typed.tools or ()],
        "top_logprobs": typed.top_logprobs or 0,
        "top_p": 1.0 if typed.top_p is None else typed.top_p,
        "truncation": typed.truncation or "disabled",
        "usage": None,
        "user": typed.user,
        "metadata": typed.metadata or {},
    }


def _reasoning(typed: ResponsesBody) -> Json:
    given = typed.reasoning
    return {"effort": given.effort if given else None, "summary": (given.summary or given.generate_summary) if given else None}


def _text(typed: ResponsesBody) -> Json:
    given = typed.text
    form: Json = {"type": "text"}
    if given and given.format:
        form = msgspec.to_builtins(given.format) if given.format.type == "json_schema" else {"type": given.format.type}
    return {"format": form, **({"verbosity": given.verbosity} if given and given.verbosity else {})}


def _tool(tool: ResponseTool) -> Json:
    found: Json = msgspec.to_builtins(tool)
    return found


def _usage(raw: Json | None) -> Json | None:
    """Chat's usage object as responses have it."""
    usage = Usage.of(raw)
    if usage is None:
        return None
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
        **({"estimated": True} if usage.source == "estimated" else {}),
    }
