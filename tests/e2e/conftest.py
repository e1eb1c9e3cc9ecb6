"""Real installations for the end-to-end tests: real processes, a real database, the real SDK."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, serve_in_thread


@pytest.fixture(scope="session")
def folders() -> Iterator[Path]:
    """Where installations live: outside root's home, which the embedded PostgreSQL cannot read."""
    folder = Path(tempfile.mkdtemp(prefix="farthing-e2e-", dir="/tmp"))  # noqa: S108 - a fresh folder of our own in it
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def upstream() -> Iterator[ScriptedUpstream]:
    with serve_in_thread() as running:
        yield running


def scripted(upstream: ScriptedUpstream, **more: object) -> dict[str, object]:
    """Settings with the scripted upstream as the only provider; every catalogue model `name` asks it for `name`."""
    names = ["fast", "strong"]
    return {
        "local": {"enabled": False},
        "providers": {"up": {"kind": "openai_compatible", "base_url": upstream.base_url, "api_key": "sk-upstream"}},
        "models": {
            name: {"provider": "up", "upstream_model": name, "price": {"input_usd_per_1m": 1, "output_usd_per_1m": 2}} for name in names
        },
        **more,
    }


@pytest.fixture(scope="session")
def gateway(folders: Path, upstream: ScriptedUpstream) -> Iterator[Installation]:
    """One worker in front of the scripted upstream."""
    with Installation(folders / "gateway", scripted(upstream)) as running:
        yield running


@pytest.fixture(scope="session")
def local(folders: Path) -> Iterator[Installation]:
    """As `make up` starts it: embedded PostgreSQL and the local models."""
    with Installation(folders / "local") as running:
        yield running
