"""Which family a model belongs to, by the name that its vendor gave it."""

from __future__ import annotations

import re

FAMILIES = (
    ("claude", r"claude"),
    ("gpt", r"gpt|chatgpt|davinci|(?<![a-z0-9])o[134](?![0-9])"),
    ("llama", r"llama|smollm"),
    ("gemma", r"gemma"),
    ("gemini", r"gemini"),
    ("mistral", r"mistral|mixtral|ministral|codestral|devstral|magistral|pixtral"),
    ("qwen", r"qwen|qwq"),
    ("deepseek", r"deepseek"),
    ("phi", r"(?<![a-z])phi-?\d"),
    ("command", r"command-"),
    ("nova", r"(?<![a-z])nova-"),
    ("grok", r"grok"),
)
"""Families and what their models' names hold. Of several in one name (`deepseek-r1-distill-llama-70b`) the last one says what answers."""

_COMPILED = tuple((family, re.compile(pattern)) for family, pattern in FAMILIES)
_REASONING = re.compile(r"(?:^|[/.])(?:o[1-9](?![0-9])|gpt-5)")


def family_of(upstream_model: str) -> str | None:
    """The family; None when the name says nothing."""
    name = upstream_model.lower()
    found = [(match.start(), family) for family, pattern in _COMPILED for match in pattern.finditer(name)]
    return max(found)[1] if found else None


def wants_newer_limit(upstream_model: str) -> bool:
    """Whether it is one of OpenAI's reasoning models, which refuse `max_tokens` and want `max_completion_tokens`."""
    return _REASONING.search(upstream_model.lower()) is not None
