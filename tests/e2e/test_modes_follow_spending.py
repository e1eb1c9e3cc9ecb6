"""Modes that follow what is spent: in all workers, without refusals, with the database away, and over a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import scripted
from inside import NO_TLS, alone, ask, both_workers, eventually, new_key, query
from postgres_proxy import Outpost, PostgresProxy, database_behind

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream

WINDOW_S = 12
LADDER = {"DEEP": {}, "SHALLOW": {"max_tokens": 5}, "SUPER_SHALLOW": {"model": "free", "max_tokens": 2}}
# A request of three words costs about half a cent; the free model costs nothing.
DEAR = {"input_usd_per_1m": 500, "output_usd_per_1m": 500}


def settings_of(upstream: ScriptedUpstream, **modes: object) -> dict[str, Any]:
    policy = {"ladder": LADDER, "window_s": WINDOW_S, "horizon_s": 4, "dwell_s": 1, **modes}
    off = {"semantic": {"enabled": False}, "exact": {"enabled": False}}
    more = {"server": {"drain_s": 2}, "config": {"poll_s": 0.5}, "database": {"probe_interval_s": 0.2}}
    settings: Any = scripted(upstream, modes=policy, cache=off, **more)
    settings["models"]["fast"]["price"] = DEAR
    settings["models"]["free"] = {
        "provider": "up",
        "upstream_model": "free",
        "price": {"input_usd_per_1m": 0, "output_usd_per_1m": 0},
    }
    return settings  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def proxied(gateway: Installation) -> Iterator[tuple[PostgresProxy, str]]:
    with database_behind(gateway, "spending") as found:
        yield found


@pytest.fixture(scope="module")
def outpost(folders: Path, upstream: ScriptedUpstream, gateway: Installation, proxied: tuple[PostgresProxy, str]) -> Iterator[Outpost]:
    settings = settings_of(upstream, ceiling_usd=0.4, tiers=["free", "pro"], tenants={"small": {"ceiling_usd": 0.15}})
    with Outpost(folders / "spending", settings, gateway, proxied[1], "spending", workers=2) as running:
        both_workers(running)
        yield running


@pytest.fixture
def calm(outpost: Outpost) -> Outpost:
    """Nothing is spent, and everybody is in the best mode."""
    eventually(lambda: not entries(outpost), "everybody in the best mode", 60)
    eventually(lambda: admin(outpost)["spend"]["spent_microusd"] == 0 or None, "an empty window", 60)
    return outpost


def admin(farthing: Installation) -> Any:
    headers = {"authorization": f"Bearer {farthing.key}"}
    answer = httpx.get(f"{farthing.url}/admin/v1/mode", headers=headers, timeout=30, verify=NO_TLS)
    assert answer.status_code == 200, answer.text
    return answer.json()


def entries(farthing: Installation) -> dict[str, str]:
    return {one["scope"]: one["entry"]["mode"] for one in admin(farthing)["scopes"] if one["entry"]}


def mode(farthing: Installation, key: str) -> str:
    """The mode that a request is answered in. Never a refusal."""
    answer = ask(farthing, key, "how are you")
    assert answer.status_code == 200, answer.text
    return answer.headers["x-farthing-mode"]


def spend_until(farthing: Installation, key: str, wanted: str, seconds: float = 20) -> None:
    """Ask and ask, until the mode is another one."""
    eventually(lambda: mode(farthing, key) == wanted, f"the mode {wanted}", seconds)


def test_a_spike_sends_the_free_tier_down_in_all_workers_and_it_comes_back(calm: Outpost) -> None:
    free = new_key(calm, "acme", tier="free")["key"]
    pro = new_key(calm, "bigco", tier="pro")["key"]
    assert mode(calm, free) == mode(calm, pro) == "DEEP"
    spend_until(calm, free, "SUPER_SHALLOW")
    began = time.monotonic()
    for pid in both_workers(calm):
        with alone(calm, pid):
            eventually(lambda: mode(calm, free) == "SUPER_SHALLOW", "the other worker", 2)
    assert mode(calm, pro) == "DEEP", "the free tier suffices"
    assert entries(calm) == {"tier:free": "SUPER_SHALLOW"}
    answer = ask(calm, free, "how are you")
    assert (answer.headers["x-farthing-model"], answer.headers["x-farthing-cost-usd"]) == ("free", "0.000000")
    eventually(lambda: not entries(calm), "the best mode", 60)
    assert mode(calm, free) == "DEEP"
    assert time.monotonic() - began > 1, "the dwell"
    changes = query(calm, "SELECT body FROM farthing.config_history WHERE name = 'modes' AND by = 'policy' ORDER BY version DESC LIMIT 2")
    assert [sorted(change["body"].get("entries", {})) for change in changes] == [[], ["tier:free"]], "down once and up once"


def test_what_others_spend_counts_in_every_worker(calm: Outpost) -> None:
    key = new_key(calm, "acme", tier="free")["key"]
    first, second = both_workers(calm)
    with alone(calm, first):
        for _ in range(4):
            assert mode(calm, key) == "DEEP"
        time.sleep(1)  # it tells
    with alone(calm, second):
        spent = eventually(lambda: admin(calm)["spend"]["spent_microusd"], "the other's spending", 3)
    assert spent > 0


def test_a_tenant_with_a_ceiling_goes_down_alone(calm: Outpost) -> None:
    small, other = new_key(calm, "small", tier="pro")["key"], new_key(calm, "bigco", tier="pro")["key"]
    spend_until(calm, small, "SUPER_SHALLOW")
    assert mode(calm, other) == "DEEP"
    assert set(entries(calm)) == {"tenant:small"}


def test_nobody_chooses_the_mode_by_asking(calm: Outpost) -> None:
    key = new_key(calm, "acme", tier="free")["key"]
    url, body = f"{calm.base_url}/chat/completions", {"model": "fast", "messages": [{"role": "user", "content": "how are you"}]}
    headers = {"authorization": f"Bearer {key}"}
    for forged in ({"x-farthing-mode": "SUPER_SHALLOW"}, {"X-Farthing-Mode": "DEEP"}):
        answer = httpx.post(url, json=body, headers={**headers, **forged}, timeout=30, verify=NO_TLS)
        assert answer.status_code == 400 or answer.headers["x-farthing-mode"] == "DEEP"
    answer = httpx.post(url, json={**body, "farthing": {"mode": "DEEP"}}, headers=headers, timeout=30, verify=NO_TLS)
    assert answer.status_code == 400
    spend_until(calm, key, "SUPER_SHALLOW")
    answer = httpx.post(url, json=body, headers={**headers, "x-farthing-mode": "DEEP"}, timeout=30, verify=NO_TLS)
    assert answer.status_code == 400 or answer.headers["x-farthing-mode"] == "SUPER_SHALLOW"


@pytest.mark.parametrize("how", ["away", "hang"])
def test_without_the_database_each_worker_decides_alone_and_they_agree_again(
    calm: Outpost, proxied: tuple[PostgresProxy, str], how: str
) -> None:
    key = new_key(calm, "acme", tier="free")["key"]
    assert mode(calm, key) == "DEEP"
    version = admin(calm)["version"]
    getattr(proxied[0], how)()
    try:
        for pid in both_workers(calm):
            with alone(calm, pid):
                spend_until(calm, key, "SUPER_SHALLOW")
    finally:
        proxied[0].back()
    eventually(lambda: admin(calm)["version"] > version or None, "the decision in the store", 30)
    eventually(lambda: not entries(calm), "the best mode", 60)
    eventually(lambda: mode(calm, key) == "DEEP", "the best mode in all workers")


def test_a_restart_keeps_the_mode(folders: Path, upstream: ScriptedUpstream) -> None:
    settings = settings_of(upstream, ceiling_usd=0.1, window_s=120, horizon_s=60, dwell_s=5)
    farthing = Installation(folders / "modes-restart", settings)
    with farthing:
        key = new_key(farthing, "acme")["key"]
        spend_until(farthing, key, "SUPER_SHALLOW")
        eventually(lambda: entries(farthing) or None, "the mode in the store", 10)
    with farthing:
        assert mode(farthing, key) == "SUPER_SHALLOW"
        time.sleep(6)
        assert mode(farthing, key) == "SUPER_SHALLOW", "what was spent before is not forgotten"
