"""The provider contract: what goes wrong, and what it is called. See `farthing.testing.providers`."""
# ruff: noqa: D102, FBT001  # a test's name is its docstring; pytest hands in the flags

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from farthing.errors import (
    FarthingError,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRefusedUs,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.pipeline.stream import Fold
from farthing.ports import Provider
from farthing.testing import malformed
from farthing.testing.providers_rig import Make, ProviderRig, ask, call, message_of
from farthing.testing.replies import CLOSE, RESET, STALL, Reply
from farthing.testing.upstream import ANY_MODEL, ScriptedUpstream
from farthing.testing.vendors import STATUSES, Said

both = pytest.mark.parametrize("streams", [False, True], ids=["whole", "streamed"])

KINDS: Mapping[int, type[UpstreamError]] = {
    400: UpstreamRejected,
    401: UpstreamRefusedUs,
    403: UpstreamRefusedUs,
    404: UpstreamRejected,
    408: UpstreamTimeout,
    413: UpstreamRejected,
    422: UpstreamRejected,
    429: UpstreamRateLimited,
    500: UpstreamUnavailable,
    502: UpstreamUnavailable,
    503: UpstreamUnavailable,
    504: UpstreamTimeout,
    529: UpstreamUnavailable,
}
"""What a vendor's statuses mean, whatever it calls them."""

BROKEN: Mapping[str, tuple[Reply, type[UpstreamError]]] = {
    "html 502": (malformed.html_page(), UpstreamUnavailable),
    "html 200": (malformed.html_page(200), UpstreamMalformed),
    "empty 200": (malformed.empty(), UpstreamMalformed),
    "empty 500": (malformed.empty(500), UpstreamUnavailable),
    "truncated": (malformed.truncated_json(), UpstreamMalformed),
    "short": (malformed.short_body(), UpstreamUnavailable),
    "invalid utf-8": (malformed.invalid_utf8_json(), UpstreamMalformed),
    "wrong shape": (malformed.wrong_shape(), UpstreamMalformed),
    "deep": (malformed.deep_json(), UpstreamMalformed),
    "silence": (malformed.stall_before_headers(), UpstreamTimeout),
    "reset": (malformed.reset_before_headers(), UpstreamUnavailable),
    "closed": (malformed.close_before_headers(), UpstreamUnavailable),
    "not http": (malformed.not_http(), UpstreamMalformed),
    "gigantic": (malformed.gigantic_body(4_000_000), UpstreamMalformed),
    "endless": (malformed.endless_body(), UpstreamMalformed),
}
"""Answers that are none on any wire."""


class TroubleContract(ProviderRig):
    """Every failure is one of the `Upstream…` errors, tells what the vendor said and none of our secrets, and leaves nothing behind."""

    lenient: ClassVar[Mapping[str, tuple[type[UpstreamError], ...]]] = {}
    """What else a case of `BROKEN` may be called by a provider whose library does not tell it apart."""

    def test_every_status_has_its_meaning(self) -> None:
        assert set(KINDS) == set(STATUSES)

    @both
    @pytest.mark.parametrize("status", STATUSES)
    async def test_a_status_is_the_right_error(self, up: ScriptedUpstream, make: Make, status: int, streams: bool) -> None:
        up.script(ANY_MODEL, self.vendor.failure(status, "The model is on fire"))
        provider = make()
        error = await self._error(provider, streams=streams)
        assert type(error) is KINDS[status], repr(error)
        assert error.upstream_status == status
        if type(error) is UpstreamRefusedUs:
            assert "providers.up" in error.message, "the operator must learn what to mend"
        else:
            assert "The model is on fire" in error.message
        await self._goes_on(up, provider)

    @both
    async def test_a_rate_limit_says_how_long(self, up: ScriptedUpstream, make: Make, streams: bool) -> None:
        up.script(ANY_MODEL, self.vendor.failure(429, "Slow down", {"retry-after": "7"}))
        error = await self._error(make(), streams=streams)
        assert (type(error), error.retry_after_s) == (UpstreamRateLimited, 7.0)

    @both
    @pytest.mark.parametrize("what", BROKEN)
    async def test_an_answer_that_is_none_is_an_error(self, up: ScriptedUpstream, make: Make, what: str, streams: bool) -> None:
        reply, kind = BROKEN[what]
        up.script(ANY_MODEL, reply)
        provider = make(**self.quick(kind))
        error = await self._error(provider, streams=streams)
        assert type(error) in {kind, *self.lenient.get(what, ())}, repr(error)
        await self._goes_on(up, provider)

    @pytest.mark.parametrize(
        ("what", "kind"),
        [("reset", UpstreamUnavailable), ("closed", UpstreamUnavailable), ("over", UpstreamUnavailable), ("stalled", UpstreamTimeout)],
    )
    async def test_a_stream_that_breaks_off_is_an_error_after_what_came(
        self, up: ScriptedUpstream, make: Make, what: str, kind: Any
    ) -> None:
        if what == "over":
            self.needs("end_mark")
        begun, _ = self.vendor.events(Said())
        up.script(ANY_MODEL, self.stream_of(*begun, 0.02, *{"reset": (RESET,), "closed": (CLOSE,), "stalled": (STALL,)}.get(what, ())))
        provider = make(**self.quick(kind))
        error, text = await self._broken_stream(provider)
        assert (type(error), text) == (kind, "Hello"), repr(error)
        await self._goes_on(up, provider)

    async def test_a_whole_answer_in_place_of_a_stream_is_an_error(self, up: ScriptedUpstream, make: Make) -> None:
        up.script(ANY_MODEL, self.vendor.whole(Said()))
        assert type(await self._error(make(), streams=True)) is UpstreamMalformed

    @pytest.mark.parametrize("garbage", [b"data: {]%$\n\n", b"\x00\x01\x02" * 40, b'data: {"type": 7, "choices": "none"}\n\n'])
    async def test_garbage_in_a_stream_is_an_error(self, up: ScriptedUpstream, make: Make, garbage: bytes) -> None:
        if not garbage.startswith(b"data:"):
            self.needs("end_mark")  # event streams may hold lines of unknown fields: what is missing then is the end
        begun, rest = self.vendor.events(Said())
        up.script(ANY_MODEL, self.stream_of(*begun, garbage, b"\n\n", *rest[:-1]))
        error, _ = await self._broken_stream(make(**self.quick(UpstreamMalformed)))
        assert isinstance(error, UpstreamMalformed | UpstreamUnavailable), repr(error)

    async def test_an_endless_stream_is_cut_off(self, up: ScriptedUpstream, make: Make) -> None:
        begun, _ = self.vendor.events(Said(texts=("x" * 1000,)))
        last = begun[-1]
        up.script(ANY_MODEL, self.stream_of(*begun, *[last] * 4000, STALL))
        error, _ = await self._broken_stream(make(max_response_bytes=2**18))
        assert type(error) is UpstreamMalformed, repr(error)
        await up.wait_for(lambda up: up.open_connections == 0)

    async def test_an_error_in_the_middle_of_a_stream_is_told(self, up: ScriptedUpstream, make: Make) -> None:
        self.needs("error_event")
        begun, _ = self.vendor.events(Said())
        up.script(ANY_MODEL, self.stream_of(*begun, self.vendor.error_event("The model is on fire")))
        error, text = await self._broken_stream(make())
        assert (type(error), text) == (UpstreamUnavailable, "Hello"), repr(error)
        assert "The model is on fire" in error.message

    async def test_an_error_as_the_first_event_is_told(self, up: ScriptedUpstream, make: Make) -> None:
        self.needs("error_event")
        up.script(ANY_MODEL, self.stream_of(self.vendor.error_event("The model is on fire")))
        error = await self._error(make(), streams=True)
        assert (type(error), "The model is on fire" in error.message) == (UpstreamUnavailable, True), repr(error)

    # Secrets

    @both
    @pytest.mark.parametrize("status", [400, 401, 500])
    async def test_credentials_that_the_vendor_repeats_are_masked(
        self, up: ScriptedUpstream, make: Make, status: int, streams: bool
    ) -> None:
        up.script(ANY_MODEL, self.vendor.failure(status, f"Incorrect API key provided: {self.secret}."))
        error = await self._error(make(), streams=streams)
        shown = [str(error), repr(error), repr(vars(error)), repr(error.wire()), *traceback.format_exception(error)]
        assert not any(self.secret in one for one in shown)

    async def test_the_provider_does_not_show_its_credentials(self, make: Make) -> None:
        assert self.secret not in repr(make())

    # Helpers

    async def _error(self, provider: Provider, *, streams: bool) -> UpstreamError:
        with pytest.raises(FarthingError) as caught:
            await ask(provider, call(), streams=streams)
        assert isinstance(caught.value, UpstreamError), repr(caught.value)
        return caught.value

    async def _broken_stream(self, provider: Provider) -> tuple[UpstreamError, str]:
        """The error, and the text that came before it."""
        fold = Fold()

        async def read() -> None:
            async for chunk, _ in provider.stream(call()):
                if chunk is not None:
                    fold.add(chunk)

        with pytest.raises(UpstreamError) as caught:
            await read()
        return caught.value, fold.text()

    async def _goes_on(self, up: ScriptedUpstream, provider: Provider) -> None:
        """After trouble the next question is answered."""
        self.play(up, Said(texts=("still ", "there")), streams=False)
        assert message_of((await provider.chat(call())).body)["content"] == "still there"
