"""From a legacy completion to chat requests, one for each prompt, and back. Pure.

Source: OpenAI's API reference, "Create completion (legacy)".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from farthing.errors import InvalidRequest
from farthing.http.openai_types import CompletionBody
from farthing.types import Json

_DEFAULT_MAX_TOKENS = 16
"""OpenAI's, where a caller names none."""

_SAME = ("temperature", "top_p", "n", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "user")
_OF_CHAT = ("messages", "tools", "functions", "tool_choice", "function_call")
_ENDS = frozenset({"stop", "length", "content_filter"})


def prompts_of(typed: CompletionBody, most: int) -> list[str]:
    """The prompts. Raises `InvalidRequest`."""
    given = [typed.prompt] if isinstance(typed.prompt, str) else typed.prompt
    if not given:
        raise InvalidRequest("prompt is missing: send a text or a list of texts", param="prompt")
    if len(given) > most:
        raise InvalidRequest(f"prompt holds {len(given)} prompts; at most {most} are answered at once", param="prompt")
    for at, prompt in enumerate(given):
        if isinstance(prompt, int | list):
            raise InvalidRequest("prompt holds tokens; chat models are asked by text: send a text or a list of texts", param="prompt")
        if not isinstance(prompt, str) or not prompt:
            raise InvalidRequest(f"prompt[{at}] must be a text that is not empty", param=f"prompt[{at}]")
    return given


def check(typed: CompletionBody, raw: Json) -> None:
    """Refuse what a chat model cannot do. Raises `InvalidRequest`."""
    if typed.suffix:
        raise InvalidRequest("suffix is not available: chat models do not fill in the middle", param="suffix")
    if typed.best_of is not None and typed.best_of != (typed.n or 1):
        raise InvalidRequest("best_of must equal n: chat models do not rank their answers", param="best_of")
    if typed.echo and typed.logprobs is not None:
        raise InvalidRequest("echo with logprobs is not available: chat models do not tell the log probabilities of a prompt", param="echo")
    if typed.n is not None and typed.n < 1:
        raise InvalidRequest("n must be at least 1", param="n")
    for name in _OF_CHAT:
        if raw.get(name):
            raise InvalidRequest(f"{name} belongs to /v1/chat/completions; here there is only a prompt", param=name)


def chat_body(typed: CompletionBody, raw: Json, prompt: str) -> Json:
    """The chat request of one prompt. Fields that nobody knows are handed on as they came."""
    body: Json = {name: value for name, value in raw.items() if name not in CompletionBody.__struct_fields__ and name not in _OF_CHAT}
    body |= {"model": typed.model, "messages": [{"role": "user", "content": prompt}]}
    body |= {name: raw[name] for name in _SAME if raw.get(name) is not None}
    body["max_tokens"] = _DEFAULT_MAX_TOKENS if typed.max_tokens is None else typed.max_tokens
    if typed.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": typed.logprobs}
    return body


class Place(msgspec.Struct, kw_only=True):
    """Where a choice stands in the answer, and how long its text is so far. `echo` is what has still to go before it."""

    index: int
    echo: str = ""
    length: int = 0


class Texts:
    """Turns the choices of several chat answers into those of one completion. `prompts` is empty unless they are to be echoed."""

    def __init__(self, prompts: Iterable[str], *, n: int, echo: bool) -> None:
        self._prompts = list(prompts)
        self._n = n
        self._echo = echo
        self._places: dict[tuple[int, int], Place] = {}

    def whole(self, prompt: int, choice: Json) -> Json:
        """A choice of a whole answer to the prompt of this number."""
        return self._choice(self._place(prompt, choice), choice, choice["message"])

    def piece(self, prompt: int, choice: Json) -> Json | None:
        """A choice of a chunk; None when it says nothing."""
        place = self._place(prompt, choice)
        found = self._choice(place, choice, choice["delta"])
        return found if found["text"] or found["finish_reason"] or found["logprobs"] else None

    def _place(self, prompt: int, choice: Json) -> Place:
        key = (prompt, choice["index"])
        if key not in self._places:
            echo = self._prompts[prompt] if self._echo else ""
            self._places[key] = Place(index=prompt * self._n + choice["index"], echo=echo)
        return self._places[key]

    def _choice(self, place: Place, choice: Json, said: Json) -> Json:
        content = said.get("content") or said.get("refusal")
        text = place.echo + (content if isinstance(content, str) else "")
        logprobs = _logprobs(choice.get("logprobs"), place.length + len(place.echo))
        place.echo = ""
        place.length += len(text)
        ended = choice.get("finish_reason")
        reason = None if ended is None else ended if ended in _ENDS else "stop"
        return {"text": text, "index": place.index, "logprobs": logprobs, "finish_reason": reason}


def _logprobs(given: Any, offset: int) -> Json | None:
    """Log probabilities in the old shape: parallel lists, offsets in characters."""
    tokens = given.get("content") if isinstance(given, dict) else None
    if not isinstance(tokens, list) or not tokens:
        return None
    named = [one for one in tokens if isinstance(one, dict) and isinstance(one.get("token"), str)]
    offsets = []
    for one in named:
        offsets.append(offset)
        offset += len(one["token"])
    tops = [[top for top in one.get("top_logprobs") or () if isinstance(top, dict) and "token" in top] for one in named]
    return {
        "tokens": [one["token"] for one in named],
        "token_logprobs": [one.get("logprob") for one in named],
        "top_logprobs": [{top["token"]: top.get("logprob") for top in top_list} for top_list in tops],
        "text_offset": offsets,
    }


def usage_sum(usages: Iterable[Json | None]) -> Json | None:
    """Usage objects added up, details included; None when there are none."""
    total: Json | None = None
    for usage in usages:
        if isinstance(usage, dict):
            total = dict(usage) if total is None else _added(total, usage)
    return total


def _added(one: Json, other: Json) -> Json:
    return {name: _sum(one.get(name), other.get(name)) for name in {**one, **other}}


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return _added(one, other)
    if isinstance(one, bool) or isinstance(other, bool):
        return bool(one or other)
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    return other if one is None else one
