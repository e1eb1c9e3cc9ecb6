from __future__ import annotations

from typing import Any

import pytest

from farthing.errors import InvalidRequest, UpstreamUnavailable
from farthing.ports import Call, Provider
from farthing.providers.anthropic import Anthropic
from farthing.settings import AnthropicSettings
from farthing.testing import malformed
from farthing.testing.anthropic import AnthropicUpstream, AnthropicVendor, error, events, usage_object
from farthing.testing.anthropic import event as coded
from farthing.testing.providers import ProviderContract
from farthing.testing.providers_rig import Make, ask, call, message_of, streamed
from farthing.testing.replies import RESET, STALL, Reply
from farthing.testing.upstream import ANY_MODEL, ScriptedUpstream
from farthing.testing.vendors import Said
from farthing.types import Usage, new_id


class TestAnthropic(ProviderContract):
    vendor = AnthropicVendor()

    def provider(self, url: str, **settings: Any) -> Provider:
        given = {"kind": "anthropic", "base_url": url, "api_key": self.secret, **settings}
        return Anthropic("up", AnthropicSettings.model_validate(given))

    # What is sent beside the body

    async def test_the_key_and_the_version_go_in_anthropics_headers(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(), streams=False)
        await make().chat(Call(upstream_model="m", body=call().body, request_id=new_id(), traceparent="00-aa-bb-01"))
        (got,) = up.requests
        assert (got.method, got.path) == ("POST", "/v1/messages")
        assert (got.headers["x-api-key"], got.headers["anthropic-version"]) == (self.secret, "2023-06-01")
        assert got.headers["traceparent"] == "00-aa-bb-01"
        assert "authorization" not in got.headers

    async def test_headers_of_the_settings_win(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(), streams=False)
        headers = {"Authorization": "Bearer token", "Anthropic-Beta": "context-1m", "anthropic-version": "2099-01-01"}
        await make(headers=headers, version="2024-01-01").chat(call())
        got = up.requests[0].headers
        assert (got["authorization"], got["anthropic-beta"], got["anthropic-version"]) == ("Bearer token", "context-1m", "2099-01-01")
        assert "x-api-key" not in got

    async def test_a_base_url_may_end_as_openais_do(self, up: ScriptedUpstream) -> None:
        self.play(up, Said(), streams=False)
        provider = self.provider(f"http://127.0.0.1:{up.port}/proxy/v1")
        await provider.chat(call())
        assert up.requests[0].path == "/proxy/v1/messages"
        await provider.aclose()

    async def test_the_limit_of_the_settings_is_sent_when_the_caller_names_none(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(), streams=False)
        await make(max_tokens=123).chat(call())
        assert self.last_asked(up).max_tokens == 123

    async def test_what_cannot_be_asked_is_refused_before_anything_is_sent(self, up: ScriptedUpstream, make: Make) -> None:
        provider = make()
        with pytest.raises(InvalidRequest):
            await provider.chat(call(n=2))
        with pytest.raises(InvalidRequest):
            await streamed(provider, call(logprobs=True))
        with pytest.raises(InvalidRequest, match="no embeddings"):
            await provider.embed(Call(upstream_model="m", body={"input": "x"}, request_id=new_id()))
        assert (up.received, up.connections) == (0, 0)

    # What only Anthropic does

    async def test_thinking_goes_back_in_the_next_turn_as_it_came(self, up: ScriptedUpstream, make: Make) -> None:
        provider = make()
        for streams in (False, True):
            self.play(up, Said(texts=(), reasoning=("hm",), calls=(("f", "{}"),)), streams=streams)
            tools = [{"type": "function", "function": {"name": "f"}}]
            one = call(tools=tools)
            body = await ask(provider, one, streams=streams)
            self.play(up, Said(), streams=False)
            history = [*one.body["messages"], message_of(body), {"role": "tool", "tool_call_id": "toolu_0", "content": "r"}]
            await provider.chat(call(messages=history, tools=tools))
            assert up.requests[-1].body["messages"][1]["content"] == [
                {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"},
                {"type": "tool_use", "id": "toolu_0", "name": "f", "input": {}},
            ]

    async def test_a_stream_that_breaks_has_told_what_it_used_so_far(self, up: ScriptedUpstream, make: Make) -> None:
        begun = [coded(one) for one in events(["x" * 400], usage=usage_object(10, 120, read=2000, written=300))][:4]
        up.script(ANY_MODEL, self.stream_of(*begun, 0.02, RESET))
        used: list[Usage | None] = []

        async def read() -> None:
            async for _, usage in make().stream(call()):
                used.append(Usage.of(usage))

        with pytest.raises(UpstreamUnavailable):
            await read()
        assert used[-1] == Usage(input=2310, output=100, cache_read=2000, cache_write=300, source="estimated")

    async def test_a_stream_without_its_last_event_is_broken(self, up: ScriptedUpstream, make: Make) -> None:
        parts = [coded(one) for one in events(["Hi"])]
        up.script(ANY_MODEL, self.stream_of(*parts[:-1]))
        with pytest.raises(UpstreamUnavailable, match="end mark"):
            await streamed(make())

    async def test_a_server_that_dawdles_after_the_last_event_does_not_hold_the_stream(self, up: ScriptedUpstream, make: Make) -> None:
        parts = [coded(one) for one in events(["Hi"])]
        up.script(ANY_MODEL, self.stream_of(*parts, STALL))
        provider = make()
        seen, _ = await streamed(provider)
        assert seen[-1]["choices"][0]["finish_reason"] == "stop"
        assert provider.open_connections == 0

    # Health

    @pytest.mark.parametrize(
        ("reply", "expected"),
        [(Reply(json={"data": []}), True), (error(401), False), (error(529), False), (malformed.not_http(), False)],
    )
    async def test_health_is_whether_the_models_are_listed(self, reply: Reply, expected: bool) -> None:  # noqa: FBT001 - pytest hands it in
        class Listing(AnthropicUpstream):
            def models(self, names: list[str]) -> Reply:
                assert names
                return reply

        async with Listing() as up:
            provider = self.provider(up.base_url)
            assert await provider.healthy() is expected
            assert (up.requests[0].method, up.requests[0].path) == ("GET", "/v1/models?limit=1")
            assert up.requests[0].headers["x-api-key"] == self.secret
            await provider.aclose()

    async def test_the_scripted_upstream_echoes_as_anthropic_would(self) -> None:
        async with AnthropicUpstream() as up:
            provider = self.provider(up.base_url)
            body = (await provider.chat(call("one two three"))).body
            assert message_of(body)["content"] == "one two three"
            assert Usage.of(body["usage"]) == Usage(input=3, output=3, source="provider")
            seen, _ = await streamed(provider, call("one two three"))
            assert len(seen) == 1 + 3 + 1
            assert await provider.healthy()
            await provider.aclose()
