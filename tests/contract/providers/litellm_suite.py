"""The provider contract over the real `litellm` package. Run by `test_litellm.py` in an environment that has it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, ClassVar

import pytest

from farthing.errors import InvalidRequest, UpstreamError, UpstreamTimeout, UpstreamUnavailable
from farthing.ports import Call, Provider
from farthing.providers.litellm import load
from farthing.providers.litellm_errors import OWN, translated
from farthing.settings import LiteLLMSettings
from farthing.testing.anthropic import AnthropicUpstream, message, message_stream, usage_object
from farthing.testing.providers import ProviderContract
from farthing.testing.providers_rig import Make, ask, call, message_of
from farthing.testing.upstream import ANY_MODEL, ScriptedUpstream
from farthing.testing.vendors import Feature, OpenAIVendor, Said
from farthing.types import Usage, new_id


class ByLiteLLM(OpenAIVendor):
    """OpenAI's wire as far as LiteLLM sees it: it takes a stream without end mark for a whole one."""

    features: frozenset[Feature] = OpenAIVendor.features - {"end_mark"}


class TestLiteLLM(ProviderContract):
    vendor = ByLiteLLM()
    owns_sockets = False
    slack_s = 0.3
    lenient: ClassVar[Any] = {
        "html 200": (UpstreamUnavailable,),
        "wrong shape": (UpstreamUnavailable,),
        "endless": (UpstreamTimeout,),
        "not http": (UpstreamUnavailable,),
    }

    def provider(self, url: str, **settings: Any) -> Provider:
        options = {"custom_llm_provider": "openai"}
        given = {"kind": "litellm", "base_url": f"{url}/v1", "api_key": self.secret, "options": options, **settings}
        return load("up", LiteLLMSettings.model_validate(given))

    @pytest.mark.parametrize(
        "switch",
        [
            {"api_base": "http://127.0.0.1:1"}, {"base_url": "http://127.0.0.1:1"}, {"api_key": "x"}, {"mock_response": "free"},
            {"custom_llm_provider": "ollama"}, {"extra_headers": {"a": "b"}}, {"extra_body": {}}, {"num_retries": 9}, {"caching": True},
            {"fallbacks": ["gpt-4o"]}, {"callbacks": ["x"]}, {"_skip_mcp_handler": False}, {"timeout": 1}, {"litellm_params": {}},
        ],
        ids=str,
    )  # fmt: skip
    @pytest.mark.parametrize("streams", [False, True])
    async def test_callers_cannot_turn_the_librarys_switches(self, up: ScriptedUpstream, make: Make, switch: Any, streams: bool) -> None:  # noqa: FBT001
        with pytest.raises(InvalidRequest, match=next(iter(switch))):
            await ask(make(), call(**switch), streams=streams)
        assert up.received == 0

    async def test_a_failure_is_not_tried_again_by_the_library(self, up: ScriptedUpstream, make: Make) -> None:
        up.script(ANY_MODEL, self.vendor.failure(500, "on fire"))
        with pytest.raises(UpstreamUnavailable):
            await make().chat(call())
        assert up.received == 1

    async def test_the_same_question_is_asked_again(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(), streams=False)
        provider = make()
        for _ in range(2):
            await provider.chat(call())
        assert up.received == 2

    async def test_an_answer_that_repeats_itself_is_an_answer(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(texts=["again"] * 150), streams=True)
        assert message_of(await ask(make(), streams=True))["content"] == "again" * 150


@pytest.mark.parametrize("streams", [False, True])
async def test_another_vendors_prompt_cache_is_counted(streams: bool) -> None:  # noqa: FBT001 - pytest hands it in
    counts = usage_object(10, 5, read=2000, written=300)
    async with AnthropicUpstream() as up:
        up.script(ANY_MODEL, message_stream(["Hel", "lo"], usage=counts) if streams else message(["Hello"], usage=counts))
        settings = {"kind": "litellm", "base_url": up.base_url, "api_key": "sk-0123456789"}
        provider = load("up", LiteLLMSettings.model_validate(settings))
        one = Call(upstream_model="anthropic/claude-sonnet-4-5", body=call().body, request_id=new_id())
        body = await ask(provider, one, streams=streams)
        assert message_of(body)["content"] == "Hello"
        assert Usage.of(body["usage"]) == Usage(input=2310, output=5, cache_read=2000, cache_write=300, source="provider")
        assert up.requests[0].headers["x-api-key"] == "sk-0123456789"
        await provider.aclose()
        await up.wait_for(lambda up: up.open_connections == 0)


def test_every_exception_of_the_library_has_a_meaning() -> None:
    import litellm.exceptions as theirs  # noqa: PLC0415 - after `load` has seen to it that importing fetches nothing

    assert {one.__name__ for one in theirs.LITELLM_EXCEPTION_TYPES} <= set(OWN)


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("x"), Exception()])
def test_any_other_exception_is_an_upstream_error(error: Exception) -> None:
    assert isinstance(translated("up", error), UpstreamError)


_ALONE = """
import socket, sys
def refused(*_, **__): raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = refused
from farthing.settings import LiteLLMSettings
from farthing.providers.litellm import load
load("up", LiteLLMSettings(kind="litellm"))
import litellm
assert not (litellm.telemetry or litellm.cache or litellm.callbacks or litellm.success_callback or litellm.failure_callback)
"""


def test_loading_the_library_uses_no_network_and_turns_its_own_ways_off() -> None:
    subprocess.run([sys.executable, "-c", _ALONE], check=True, timeout=60)
