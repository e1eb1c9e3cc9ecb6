"""The provider contract: sockets, waits and letting go. See `farthing.testing.providers`."""
# ruff: noqa: D102, FBT001, PLR2004  # a test's name is its docstring, pytest hands in the flags, literal expectations are the point

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from farthing.errors import Overloaded, UpstreamTimeout, UpstreamUnavailable
from farthing.ports import Provider
from farthing.testing import malformed
from farthing.testing.providers_rig import Make, ProviderRig, ask, call, message_of, streamed
from farthing.testing.replies import STALL, Part, Reply
from farthing.testing.upstream import ANY_MODEL, ScriptedUpstream
from farthing.testing.vendors import Said

both = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])
_SOON_S = 10.0


class ConnectionsContract(ProviderRig):
    """`ports.Provider` as a guest of the network."""

    # Letting go

    @both
    @pytest.mark.parametrize("stalls", ["before the head", "after the head"])
    async def test_cancelling_closes_the_socket_at_once(self, up: ScriptedUpstream, make: Make, stalls: str, streams: bool) -> None:
        up.script(ANY_MODEL, malformed.stall_before_headers() if stalls == "before the head" else self.stream_of(STALL))
        provider = make()
        task = asyncio.ensure_future(ask(provider, streams=streams))
        await up.wait_for(lambda up: up.received == 1, _SOON_S)
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await up.wait_for(lambda up: up.disconnects == 1)

    async def test_leaving_a_stream_half_read_closes_the_socket_at_once(self, up: ScriptedUpstream, make: Make) -> None:
        begun, _ = self.vendor.events(Said())
        up.script(ANY_MODEL, self.stream_of(*begun, STALL))
        provider = make()
        pairs = provider.stream(call())
        await anext(pairs)
        await pairs.aclose()
        await up.wait_for(lambda up: up.disconnects == 1)

    async def test_cancelling_in_the_middle_of_a_stream_closes_the_socket_at_once(self, up: ScriptedUpstream, make: Make) -> None:
        begun, _ = self.vendor.events(Said())
        up.script(ANY_MODEL, self.stream_of(*begun, STALL))
        provider = make()
        seen = asyncio.Event()

        async def read() -> None:
            async for _ in provider.stream(call()):
                seen.set()

        task = asyncio.ensure_future(read())
        await asyncio.wait_for(seen.wait(), _SOON_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await up.wait_for(lambda up: up.disconnects == 1)

    async def test_a_stream_never_begun_asks_nothing(self, up: ScriptedUpstream, make: Make) -> None:
        pairs = make().stream(call())
        await pairs.aclose()
        assert up.received == 0

    # Waits

    @both
    async def test_the_first_piece_has_a_deadline(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        up.script(ANY_MODEL, malformed.stall_before_headers())
        with pytest.raises(UpstreamTimeout):
            await ask(make(first_token_timeout_s=0.15 + self.slack_s), streams=streams)
        await up.wait_for(lambda up: up.open_connections == 0)

    async def test_each_further_piece_has_a_deadline(self, up: ScriptedUpstream, make: Make) -> None:
        begun, _ = self.vendor.events(Said())
        up.script(ANY_MODEL, self.stream_of(*begun, STALL))
        with pytest.raises(UpstreamTimeout):
            await streamed(make(idle_timeout_s=0.15 + self.slack_s))
        await up.wait_for(lambda up: up.open_connections == 0)

    @both
    async def test_the_whole_answer_has_a_deadline(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        begun, _ = self.vendor.events(Said())
        drip: list[Part] = [begun[-1] if streams else b" ", 0.02] * 500
        if streams:
            up.script(ANY_MODEL, self.stream_of(*begun, *drip))
        else:
            up.script(ANY_MODEL, Reply(parts=(b'{"id": "never finished",', *drip), headers={"content-type": "application/json"}))
        with pytest.raises(UpstreamTimeout):
            await ask(make(total_timeout_s=0.3 + self.slack_s), streams=streams)
        await up.wait_for(lambda up: up.open_connections == 0)

    @both
    async def test_connecting_has_a_deadline(self, streams: bool) -> None:
        with _deaf_port() as port:
            provider = self.provider(f"http://127.0.0.1:{port}", connect_timeout_s=0.15)
            with pytest.raises(UpstreamTimeout):
                await ask(provider, streams=streams)
            await provider.aclose()

    @both
    async def test_nobody_there_is_an_error(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        provider = make()
        async with up.down():
            with pytest.raises(UpstreamUnavailable) as caught:
                await ask(provider, streams=streams)
            assert caught.value.upstream_status is None, "nobody spoke: another attempt may help"
            assert not await provider.healthy()

    # Sockets

    async def test_connections_are_used_again(self, up: ScriptedUpstream, make: Make) -> None:
        provider = make()
        for _ in range(3):
            self.play(up, Said(), streams=True)
            await streamed(provider)
            self.play(up, Said(), streams=False)
            await provider.chat(call())
        assert (up.connections, up.received) == (1, 6)
        assert provider.open_connections == (1 if self.owns_sockets else 0)

    async def test_a_connection_that_the_vendor_closed_is_not_used_again(self, up: ScriptedUpstream, make: Make) -> None:
        provider = make()
        self.play(up, Said(), streams=False)
        await provider.chat(call())
        async with up.down():
            pass
        assert message_of((await provider.chat(call())).body)["content"] == "Hello"

    async def test_many_questions_at_the_same_time_get_their_own_answers(self, up: ScriptedUpstream, make: Make) -> None:
        def answer(received: Any) -> Any:
            return self.vendor.whole(Said(texts=(self.vendor.asked(received).turns[0][1],)))

        up.script(ANY_MODEL, answer)
        provider = make()
        bodies = await asyncio.gather(*(provider.chat(call(f"question {at}")) for at in range(50)))
        assert [message_of(one.body)["content"] for one in bodies] == [f"question {at}" for at in range(50)]

    async def test_connections_are_limited_and_waiting_for_one_has_an_end(self, up: ScriptedUpstream, make: Make) -> None:
        begun, _ = self.vendor.events(Said())
        up.script(ANY_MODEL, self.stream_of(*begun, STALL))
        provider = make(max_connections=2, connect_timeout_s=0.2 + self.slack_s)
        held = [provider.stream(call()) for _ in range(2)]
        for pairs in held:
            await anext(pairs)
        with pytest.raises(Overloaded):
            await provider.chat(call())
        assert up.connections == 2
        await held[0].aclose()
        self.play(up, Said(), streams=False)
        assert message_of((await provider.chat(call())).body)["content"] == "Hello"
        await held[1].aclose()

    async def test_whoever_waits_for_a_connection_gets_the_next_one(self, up: ScriptedUpstream, make: Make) -> None:
        self.play(up, Said(), streams=False)
        provider = make(max_connections=2)
        bodies = await asyncio.gather(*(provider.chat(call()) for _ in range(20)))
        assert len(bodies) == 20
        assert up.connections <= 2 + 1, "one more may be opened where the server closed one"

    # Health and the end

    async def test_closing_leaves_no_socket(self, up: ScriptedUpstream, make: Make) -> None:
        provider = make()
        self.play(up, Said(), streams=False)
        await asyncio.gather(*(provider.chat(call()) for _ in range(5)))
        await provider.aclose()
        await up.wait_for(lambda up: up.open_connections == 0)
        assert provider.open_connections == 0

    async def test_closing_twice_is_no_error(self, make: Make) -> None:
        provider = make()
        await provider.aclose()
        await provider.aclose()

    async def test_a_provider_knows_its_name_and_kind(self, make: Make) -> None:
        provider: Provider = make()
        assert provider.name == "up"
        assert provider.kind


@contextmanager
def _deaf_port() -> Iterator[int]:
    """A port that listens and accepts nobody: its queue of one is full, so that the kernel leaves further SYNs unanswered."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.settimeout(0)
            with suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
            fillers.append(filler)
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()
