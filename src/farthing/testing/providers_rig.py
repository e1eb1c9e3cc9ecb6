"""What the suites of the provider contract share: the server, the provider under test, and how to ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import pytest

from farthing.errors import UpstreamError, UpstreamTimeout
from farthing.pipeline.stream import Fold
from farthing.ports import Call, Provider
from farthing.testing.replies import Part, Reply
from farthing.testing.upstream import ANY_MODEL, ScriptedUpstream
from farthing.testing.vendors import Asked, Feature, Said, Vendor
from farthing.types import Json, new_id

Make = Callable[..., Provider]


class ProviderRig:
    """See `farthing.testing.providers`."""

    vendor: ClassVar[Vendor]
    secret: ClassVar[str] = "sk-contract-0123456789abcdef"  # noqa: S105 - opens nothing; looked for in errors
    owns_sockets: ClassVar[bool] = True
    """False for a provider whose library keeps the sockets: its `open_connections` counts the calls under way."""
    slack_s: ClassVar[float] = 0.0
    """Added to the short time-outs of the tests, for a provider that needs a moment before it sends anything."""

    def provider(self, url: str, **settings: Any) -> Provider:
        """The provider under test."""
        raise NotImplementedError

    @pytest.fixture
    async def up(self) -> AsyncIterator[ScriptedUpstream]:
        """The vendor's server."""
        async with ScriptedUpstream() as upstream:
            yield upstream

    @pytest.fixture
    async def make(self, up: ScriptedUpstream) -> AsyncIterator[Make]:
        """Makes providers; at the end none of them has left a socket open."""
        made: list[Provider] = []

        def make(**settings: Any) -> Provider:
            made.append(self.provider(f"http://127.0.0.1:{up.port}", **settings))
            return made[-1]

        yield make
        for one in made:
            await one.aclose()
        await up.wait_for(lambda up: up.open_connections == 0)

    def quick(self, kind: type[UpstreamError] = UpstreamTimeout) -> dict[str, Any]:
        """Settings of a provider with a small appetite, and an impatient one where a time-out is what is expected: nowhere else may it be.

        A busy machine keeps everybody waiting.
        """
        small = {"max_response_bytes": 2**20}
        if kind is not UpstreamTimeout:
            return small
        quick = 0.15 + self.slack_s
        return {"first_token_timeout_s": quick, "idle_timeout_s": quick, "total_timeout_s": 2 + self.slack_s, **small}

    def needs(self, feature: Feature) -> None:
        """Skip a test of what the vendor's wire cannot express."""
        if feature not in self.vendor.features:
            pytest.skip(f"{type(self.vendor).__name__}'s wire has no {feature}")

    def play(self, up: ScriptedUpstream, said: Said, *, streams: bool) -> None:
        """Let the server say this."""
        begun, rest = self.vendor.events(said)
        up.script(ANY_MODEL, self.stream_of(*begun, *rest) if streams else self.vendor.whole(said))

    def stream_of(self, *parts: Part) -> Reply:
        """A streamed answer of these parts."""
        return Reply(parts=parts, headers=self.vendor.stream_headers)

    def last_asked(self, up: ScriptedUpstream) -> Asked:
        """What the server was asked last."""
        return self.vendor.asked(up.requests[-1])


def call(text: str = "Say hi", **body: Any) -> Call:
    """A question. `messages` in `body` replaces the text."""
    whole = {"model": "the caller's name for it", "messages": [{"role": "user", "content": text}], **body}
    return Call(upstream_model="m", body=whole, request_id=new_id())


async def streamed(provider: Provider, one: Call | None = None) -> tuple[list[Json], list[Json]]:
    """Chunks and usages of a whole stream."""
    seen: list[Json] = []
    usages: list[Json] = []
    async for chunk, usage in provider.stream(one or call()):
        if chunk is not None:
            seen.append(chunk)
        if usage is not None:
            usages.append(usage)
    return seen, usages


async def ask(provider: Provider, one: Call | None = None, *, streams: bool) -> Json:
    """The answer as a `chat.completion`, whichever way it was asked for, with its last usage."""
    if not streams:
        return (await provider.chat(one or call())).body
    seen, usages = await streamed(provider, one)
    fold = Fold()
    for chunk in seen:
        fold.add(chunk)
    return fold.body(usages[-1] if usages else None)


def message_of(body: Json) -> Json:
    """The first choice's message."""
    message: Json = body["choices"][0]["message"]
    return message
