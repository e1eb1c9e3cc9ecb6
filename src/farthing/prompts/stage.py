"""The prompt stage: a request that names a prompt gets its text in front of its messages.

Before any cache looks, because an answer hangs on the prompt: the text is part of the body, and the version, which covers the variants
too, is part of the keys. Which variant a model is told is known when it is asked (`routing.shaping`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Mapping

import msgspec

from farthing.errors import InvalidRequest
from farthing.pipeline.stage import Next
from farthing.settings import PromptSettings
from farthing.settings.names import nearest
from farthing.types import Answer, Operation, Prompt, Request

_encode = msgspec.json.Encoder(order="deterministic").encode
_HASH = 8


class Prompts:
    """See `pipeline.stage.Stage`. Knows the prompts of the settings."""

    def __init__(self, settings: Mapping[str, PromptSettings]) -> None:
        self._prompts = {name: prompt_of(name, one) for name, one in settings.items()}

    def __call__(self, request: Request, following: Next) -> Awaitable[Answer]:
        """Not a coroutine of its own: most requests name no prompt."""
        self.put(request)
        return following(request)

    def put(self, request: Request) -> None:
        """Put the prompt that a request names in front of its messages, those of the system's that it brings itself included.

        A no-op when it names none. Raises `InvalidRequest`.
        """
        name = request.extras.prompt
        if name is None:
            return
        if request.operation is not Operation.CHAT:
            raise InvalidRequest(f"farthing.prompt: a prompt is for chats, not for {request.operation}", param="farthing.prompt")
        found = self._prompts.get(name)
        if found is None:
            raise InvalidRequest(
                f"farthing.prompt: there is no prompt {name[:64]!r}{nearest(name[:64], set(self._prompts))}", param="farthing.prompt"
            )
        request.prompt = found
        request.prompt_version = found.version
        request.body = {**request.body, "messages": [{"role": "system", "content": found.system}, *request.body["messages"]]}
        if request.size:
            request.size += max(len(text.encode()) for text in (found.system, *found.variants.values()))


def prompt_of(name: str, settings: PromptSettings) -> Prompt:
    """A prompt of the settings. Its version changes with each of its texts."""
    digest = hashlib.sha256(_encode((settings.system, settings.variants))).hexdigest()
    return Prompt(version=f"{name}@{digest[:_HASH]}", system=settings.system, variants=dict(settings.variants))
