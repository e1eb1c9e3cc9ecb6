"""An answer that is not the JSON that was asked for, or tool calls that no tool would take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from farthing.pipeline.json_schema import Finding, examine, examine_object, examine_response
from farthing.routing.checks.check import Answered
from farthing.routing.checks.placed import CannotTell
from farthing.routing.checks.reading import Said, choices_of
from farthing.settings import JsonSchemaCheckSettings
from farthing.types import Json

_AT_ONCE_CHARS = 20_000
_AT_ONCE_STEPS = 300
"""About a millisecond. What needs more is done in a thread, so that the others' requests go on meanwhile."""
_STEPS = 10_000
_JSON_BEGINS = frozenset('{["-0123456789tfn')
_Look = Callable[..., Finding | None]


class FitsSchema:
    """Each choice: its text against `response_format`, or the arguments of its tool calls against the parameters of the tools.

    Text in a code fence, or with words around it, is not JSON: the caller's parser would say the same. A choice that calls tools need not
    have a text.
    """

    def __init__(self, settings: JsonSchemaCheckSettings) -> None:
        self._timeout_s = settings.timeout_s

    async def judge(self, answered: Answered) -> str | None:
        """See `Check`. Raises `CannotTell`. Of a beginning it only sees whether JSON may begin so."""
        asked = answered.request.body.get("response_format")
        asked = asked if isinstance(asked, dict) and asked.get("type") in {"json_object", "json_schema"} else None
        for said in choices_of(answered.body):
            if not answered.whole:
                if asked is not None and not _may_begin(said.text):
                    return "not JSON"
                continue
            for look, size in _looks(answered.request.body, asked, said):
                why = await self._why(look, size)
                if why is not None:
                    return why
        return None

    async def _why(self, look: _Look, size: int) -> str | None:
        found = look(max_steps=_AT_ONCE_STEPS) if size <= _AT_ONCE_CHARS else _UNSEEN
        if found is not None and found.keyword == "steps":
            try:
                async with asyncio.timeout(self._timeout_s):
                    found = await asyncio.to_thread(look, max_steps=_STEPS)
            except TimeoutError:
                raise CannotTell(f"it took longer than {self._timeout_s:g} s") from None
        if found is None:
            return None
        if found.kind == "unclear":
            raise CannotTell("the schema cannot be read, refers elsewhere, or asks for too much work")
        return "not JSON" if found.kind == "not_json" else f"it breaks the schema ({found.keyword})"


_UNSEEN = Finding(kind="unclear", message="", keyword="steps")


def _looks(body: Json, asked: Json | None, said: Said) -> Iterator[tuple[_Look, int]]:
    """What is to be looked at, each with the size of the text."""
    for name, arguments in said.calls:
        yield _arguments(body, name, arguments), len(arguments) if isinstance(arguments, str) else 0
    if asked is not None and not said.calls and not said.refusal:
        yield partial(examine_response, asked, said.text), len(said.text)


def _arguments(body: Json, name: str, arguments: Any) -> _Look:
    known, parameters = _parameters(body, name)
    if not known:
        return partial(_say, Finding(kind="breaks", message="", keyword="a tool that there is not"))
    if not isinstance(arguments, str):
        return partial(_say, Finding(kind="not_json", message=""))
    text = arguments if arguments.strip() else "{}"  # some servers write no arguments so
    return partial(examine, text, parameters) if isinstance(parameters, dict) else partial(_object, text)


def _say(found: Finding, *, max_steps: int) -> Finding:
    del max_steps
    return found


def _object(text: str, *, max_steps: int) -> Finding | None:
    del max_steps
    return examine_object(text)


def _parameters(body: Json, name: str) -> tuple[bool, Any]:
    """Whether a function of that name was offered, and the schema of its arguments, if it has one."""
    tools, functions = body.get("tools"), body.get("functions")
    offered = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    if isinstance(functions, list):
        offered += functions
    named = [function for function in offered if isinstance(function, dict)]
    for function in named:
        if function.get("name") == name:
            return True, function.get("parameters")
    return not named, None


def _may_begin(text: str) -> bool:
    begins = text.lstrip()[:1]
    return not begins or begins in _JSON_BEGINS
