"""What every provider must do, played over its vendor's own wire on real sockets.

Subclass the suite in a test module:

    class TestAnthropic(ProviderContract):
        vendor = AnthropicVendor()                     # how the vendor's server speaks: farthing.testing.vendors.Vendor

        def provider(self, url: str, **settings: Any) -> Provider:
            given = {"kind": "anthropic", "base_url": url, "api_key": self.secret, **settings}
            return Anthropic("up", AnthropicSettings.model_validate(given))

`url` is `http://127.0.0.1:PORT`, without a path; `settings` are those that all kinds have (`settings.ProviderSettings`: time-outs,
`max_connections`, `max_response_bytes`). The provider must be called `up` and must be given `self.secret` as its credentials, so that the
suite can look for it in errors. What a wire cannot express is left out of `Vendor.features`; the tests of it are skipped and say so.

The server is a `ScriptedUpstream` with every answer scripted, so that any path and any body will do. A test of the subclass may use
the fixtures `up` and `make` (`make(**settings)` gives a provider that is closed, and seen to leave no socket, at the end), and
`self.play(up, said)` to script an answer.
"""

from __future__ import annotations

from farthing.testing.providers_answers import AnswersContract
from farthing.testing.providers_connections import ConnectionsContract
from farthing.testing.providers_trouble import TroubleContract

__all__ = ["ProviderContract"]


class ProviderContract(AnswersContract, TroubleContract, ConnectionsContract):
    """`ports.Provider`."""
