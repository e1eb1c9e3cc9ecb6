"""How providers say that a request is too long for a model. They have no common code for it, so that their words must be known.

Sources: the vendors' documentation and the sources of vLLM, TGI, llama.cpp and Ollama; the tests hold an example of each.
"""

from __future__ import annotations

import re

CODES = frozenset({"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded", "model_max_prompt_tokens_exceeded"})
"""What stands in `code` or `type`: OpenAI, Azure, Groq; llama.cpp; GitHub Models."""

_WORDS = re.compile(
    r"maximum context length"  # OpenAI, Azure, DeepSeek, OpenRouter, Mistral, vLLM, Bedrock
    r"|exceeds? the context (?:window|length)"  # OpenAI's Responses API, Ollama
    r"|context length is only"  # vLLM
    r"|longer than the maximum model length"  # vLLM
    r"|prompt is too long"  # Anthropic
    r"|exceed context limit"  # Anthropic: input and max_tokens together
    r"|input is too long for requested model"  # Bedrock
    r"|number of input tokens exceeds maximum length|input tokens exceeded"  # Bedrock: Nova
    r"|input token count (?:\(\d+\) )?exceeds the maximum number of tokens"  # Gemini
    r"|exceeds the available context size|(?:greater|larger) than the context (?:size|length)"  # llama.cpp, LM Studio
    r"|maximum prompt length is \d+"  # xAI
    r"|inputs?`? tokens \+ `?max_new_tokens`? must be <="  # TGI, Together
    r"|too many tokens: (?:total )?number of tokens"  # Cohere
    r"|reduce the length of the messages or completion",  # Groq
    re.IGNORECASE,
)


def says_too_long(message: str | None, *names: str | None) -> bool:
    """Whether an error means that. `names` are its code and type."""
    return any(name in CODES for name in names) or (message is not None and _WORDS.search(message) is not None)
