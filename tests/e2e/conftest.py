"""Real installations for the end-to-end tests: real processes, a real database, the real SDK."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAI
from probes import Probe

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, serve_in_thread

Lasting = Callable[[Installation], Installation]


@pytest.fixture(scope="session")
def folders() -> Iterator[Path]:
    """Where installations live: outside root's home, which the embedded PostgreSQL cannot read."""
    folder = Path(tempfile.mkdtemp(prefix="farthing-e2e-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    with serve_in_thread() as running:
        yield running


def scripted(upstream: ScriptedUpstream, **more: object) -> dict[str, object]:
    """Settings with the scripted upstream as the only provider; every catalogue model `name` asks it for `name`.

    Without the semantic cache, which has tests of its own: where they count calls and milliseconds, nothing else may answer.
    """
    names = ["fast", "strong"]
    return {
        "local": {"enabled": False},
        "cache": {"semantic": {"enabled": False}},
        "providers": {"up": {"kind": "openai_compatible", "base_url": upstream.base_url, "api_key": "sk-upstream"}},
        "models": {
            name: {"provider": "up", "upstream_model": name, "price": {"input_usd_per_1m": 1, "output_usd_per_1m": 2}} for name in names
        },
        **more,
    }


@pytest.fixture(scope="session")
def lasting(folders: Path, upstream: ScriptedUpstream) -> Iterator[Lasting]:
    """Starts an installation for all tests. At the end all are stopped at the same time: each waits for this and that."""
    del folders, upstream  # which go after them
    running: list[Installation] = []

    def start(made: Installation) -> Installation:
        made.start()
        running.append(made)
        return made

    yield start
    with ThreadPoolExecutor(max(1, len(running))) as pool:
        list(pool.map(Installation.stop, running))


@pytest.fixture(scope="session")
def gateway(folders: Path, upstream: ScriptedUpstream, lasting: Lasting) -> Installation:
    """One worker in front of the scripted upstream."""
    return lasting(Installation(folders / "gateway", scripted(upstream)))


@pytest.fixture(scope="session")
def local(folders: Path, lasting: Lasting) -> Installation:
    """As `make up` starts it: embedded PostgreSQL and the local models."""
    return lasting(Installation(folders / "local"))


@pytest.fixture(scope="session")
def crowd(folders: Path, upstream: ScriptedUpstream, lasting: Lasting) -> Installation:
    """Two workers, the scripted upstream and the local model; `either` is the local model with the upstream behind it."""
    settings = scripted(upstream, local={"restart_wait_s": 0.05})
    deployments = [{"provider": "local", "upstream_model": "smollm2-135m"}, {"provider": "up", "upstream_model": "fast", "weight": 0}]
    settings["models"]["either"] = {"deployments": deployments}  # type: ignore[index]  # as `scripted` makes it
    return lasting(Installation(folders / "crowd", settings, workers=2))


@pytest.fixture(scope="session")
def books(folders: Path, upstream: ScriptedUpstream, lasting: Lasting) -> Installation:
    """Models at known prices, one at genai-prices' own, one that nobody prices, and one that has to fall back twice."""
    plain = {"input_usd_per_1m": 1, "output_usd_per_1m": 2}
    prices = {
        "plain": plain,
        "dear": {"input_usd_per_1m": 10, "output_usd_per_1m": 30},
        "cached": {**plain, "cache_read_usd_per_1m": 0.25},
    }
    models: dict[str, object] = {name: {"provider": "up", "upstream_model": name, "price": price} for name, price in prices.items()}
    models |= {
        "known": {"provider": "up", "upstream_model": "gpt-4o-mini"},
        "unknown": {"provider": "up", "upstream_model": "a-model-that-nobody-sells"},
        "vectors": {"provider": "up", "upstream_model": "vectors", "kind": "embeddings", "price": {"input_usd_per_1m": 100}},
        "shaky": {
            "deployments": [
                {"provider": "nowhere", "upstream_model": "a"},
                {"provider": "up", "upstream_model": "broken", "weight": 0},
            ],
            "fallbacks": ["dear"],
            "price": plain,
        },
    }
    providers = {
        "up": {"kind": "openai_compatible", "base_url": upstream.base_url},
        "nowhere": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "connect_timeout_s": 1, "cooldown": {"failures": 99}},
    }
    return lasting(Installation(folders / "books", {"local": {"enabled": False}, "providers": providers, "models": models}))


@pytest.fixture
def up(upstream: ScriptedUpstream) -> Iterator[ScriptedUpstream]:
    """The scripted upstream for one test: afterwards it echoes again."""
    yield upstream
    upstream._scripts.clear()


@pytest.fixture
def sdk(gateway: Installation) -> Iterator[OpenAI]:
    """The official SDK in front of `gateway`, without its retries."""
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
async def async_sdk(gateway: Installation) -> AsyncIterator[AsyncOpenAI]:
    """Its asynchronous twin."""
    async with AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def strict(folders: Path, upstream: ScriptedUpstream, lasting: Lasting) -> Installation:
    """As `gateway`, but impatient: all time-outs are short, answers small, and no attempt is repeated."""
    settings = scripted(
        upstream,
        server={"header_timeout_s": 0.6, "body_timeout_s": 0.6, "max_body_bytes": 2**20},
        ledger={"flush_interval_s": 0.02, "unauthenticated_rows_per_minute": 100_000},
        telemetry={"log_requests": True},
    )
    provider = settings["providers"]["up"]  # type: ignore[index]  # as `scripted` makes it
    provider |= {"first_token_timeout_s": 0.7, "idle_timeout_s": 0.7, "total_timeout_s": 5, "max_response_bytes": 2**20, "retries": 0}
    return lasting(Installation(folders / "strict", settings))


@pytest.fixture
def probe(gateway: Installation, upstream: ScriptedUpstream) -> Probe:
    """What `gateway` shows from outside."""
    return Probe(gateway, upstream)


@pytest.fixture
def strict_probe(strict: Installation, upstream: ScriptedUpstream) -> Probe:
    """What `strict` shows from outside."""
    return Probe(strict, upstream)


@pytest.fixture(scope="session")
def fleet(folders: Path, upstream: ScriptedUpstream, lasting: Lasting) -> Installation:
    """Models with several ways to be answered. Each deployment is known to the upstream by a name of its own, such as `first`."""

    def provider(**more: object) -> dict[str, object]:
        cooldown = {"failures": 2, "seconds": 0.5}
        limits = {"first_token_timeout_s": 1, "idle_timeout_s": 2, "connect_timeout_s": 0.5, "retries": 0, "cooldown": cooldown}
        return {"kind": "openai_compatible", "base_url": upstream.base_url, "api_key": "sk-upstream", **limits, **more}

    def deployment(name: str, of: str = "up", weight: int = 1, price: float = 1) -> dict[str, object]:
        prices = {"input_usd_per_1m": price, "output_usd_per_1m": price}
        return {"provider": of, "upstream_model": name, "weight": weight, "price": prices}

    settings = {
        "local": {"enabled": False},
        "ledger": {"flush_interval_s": 0.02},
        "generate": {"model": "pair", "task_types": {"summarize": "cheap"}},
        "cache": {
            "exact": {"follow_timeout_s": 1, "max_entry_bytes": 10_000, "max_chunks": 100, "max_temperature": 1},
            "semantic": {"enabled": False},
        },
        "providers": {
            "up": provider(),
            "firm": provider(retries=2),
            "narrow": provider(max_connections=2),
            "plain": provider(stream_usage=False),
            "away": provider(base_url="http://127.0.0.1:1/v1"),
        },
        "models": {
            "pair": {"deployments": [deployment("first"), deployment("second", weight=0)]},
            "shared": {"deployments": [deployment("often", weight=3), deployment("seldom")]},
            "cheap": {"deployments": [deployment("frugal")], "fallbacks": ["dear"]},
            "dear": {"deployments": [deployment("lavish", price=10)]},
            "unreachable": {"deployments": [deployment("nowhere", of="away")], "fallbacks": ["pair"]},
            "away": {"deployments": [deployment("nowhere", of="away")]},
            "firm": {"deployments": [deployment("firm", of="firm")]},
            "narrow": {"deployments": [deployment("narrow", of="narrow")]},
            "plain": {"deployments": [deployment("plain", of="plain")]},
            "gpt-5": {"deployments": [deployment("gpt-5")]},
            "vectors": {"deployments": [deployment("vectors")], "kind": "embeddings"},
        },
    }
    return lasting(Installation(folders / "fleet", settings))


@pytest.fixture
def fleet_probe(fleet: Installation, upstream: ScriptedUpstream) -> Probe:
    """What `fleet` shows from outside."""
    return Probe(fleet, upstream)


@pytest.fixture
def fleet_sdk(fleet: Installation) -> Iterator[OpenAI]:
    """The official SDK in front of `fleet`, without its retries."""
    with OpenAI(base_url=fleet.base_url, api_key=fleet.key, max_retries=0, timeout=20) as client:
        yield client
