"""How each gateway is set up to forward to the instant upstream: command, configuration, address, credentials."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import msgspec

from processes import Server, free_port

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "bench" / ".peers"
MASTER_KEY = "sk-0123456789abcdef0123456789abcdef"  # LiteLLM wants one of that length; it opens nothing else


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a load goes. `repeat`: the same body each time, so that a cache answers."""

    name: str
    url: str
    model: str
    headers: dict[str, str]
    repeat: bool = False


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """A server and how to address it once it runs."""

    server: Server
    target: Callable[[], Target]


def instant(work: Path) -> Gateway:
    """The upstream itself."""
    port = free_port()
    server = Server(
        "direct",
        [sys.executable, "-m", "farthing.testing.instant", "--port", str(port)],
        log=work / "instant.log",
        ready_url=f"http://127.0.0.1:{port}/v1/models",
    )
    target = Target(name="direct", url=f"http://127.0.0.1:{port}/v1/chat/completions", model="gpt-4o-mini", headers=_bearer("sk-test"))
    return Gateway(server=server, target=lambda: target)


def farthing(work: Path, upstream: str, workers: int, *, local: bool = False) -> Gateway:
    """Farthing with everything on. Its database in `work` outlives the server, so that a second start finds it warm."""
    port, data, settings = free_port(), work / "data", work / f"farthing-{'local' if local else 'remote'}.yaml"
    settings.write_text(
        f"local: {{enabled: {str(local).lower()}}}\n"
        f'providers:\n  up: {{kind: openai_compatible, base_url: "{upstream}", api_key: "sk-test"}}\n'
        "models:\n  fast: {provider: up, upstream_model: gpt-4o-mini, tags: [cheap]}\n"
    )
    argv = [str(Path(sys.executable).with_name("farthing")), "up", "--host", "127.0.0.1", "--port", str(port), "--data", str(data)]
    server = Server(
        "farthing",
        [*argv, "--workers", str(workers), "--settings", str(settings)],
        log=work / "farthing.log",
        ready_url=f"http://127.0.0.1:{port}/readyz",
        worker_mark="farthing",
        daemon_mark=str(data),
    )
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    key_file = data / "admin.key"
    return Gateway(
        server=server, target=lambda: Target(name="farthing", url=url, model="fast", headers=_bearer(key_file.read_text().strip()))
    )


def budgeted(ours: Target) -> Target:
    """The same installation with a key that has a hard budget and all three limits, none of which is reached."""
    url = urlsplit(ours.url)
    body = {
        "tenant": "bench",
        "budget_usd": "100000/day",
        "requests_per_minute": 100_000_000,
        "tokens_per_minute": 1_000_000_000,
        "concurrency": 10_000,
    }
    made = Request(f"{url.scheme}://{url.netloc}/admin/v1/keys", data=msgspec.json.encode(body), headers=ours.headers)  # noqa: S310 - our own
    with urlopen(made, timeout=10) as answer:  # noqa: S310 - the same
        key = msgspec.json.decode(answer.read())["key"]
    return msgspec.structs.replace(ours, name="farthing-budgeted", headers=_bearer(key))


def litellm(work: Path, upstream: str, workers: int) -> Gateway:
    """LiteLLM's proxy, no database, no cache."""
    port, config = free_port(), work / "litellm.yaml"
    config.write_text(
        f'model_list:\n  - model_name: fast\n    litellm_params: {{model: openai/gpt-4o-mini, api_base: "{upstream}", api_key: sk-test}}\n'
    )
    argv = [str(PEERS / "litellm/bin/litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    server = Server(
        "litellm",
        # Its workers take longer to start than uvicorn's health check waits by default, and would be killed again and again.
        [*argv, "--num_workers", str(workers), "--timeout_worker_healthcheck", "120"],
        log=work / "litellm.log",
        ready_url=f"http://127.0.0.1:{port}/health/liveliness",
        env={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": MASTER_KEY, "LITELLM_LOG": "ERROR"},
        worker_mark="spawn_main",
        timeout_s=180,
    )
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    return Gateway(server=server, target=lambda: Target(name="litellm", url=url, model="fast", headers=_bearer(MASTER_KEY)))


def tensorzero(work: Path, upstream: str, _workers: int) -> Gateway:
    """TensorZero's gateway, one process of many threads, no database, no auth, no ledger."""
    config = work / "tensorzero.toml"
    config.write_text(
        "[gateway]\nobservability.enabled = false\n"
        '[models.fast]\nrouting = ["up"]\n'
        '[models.fast.providers.up]\ntype = "openai"\nmodel_name = "gpt-4o-mini"\n'
        f'api_base = "{upstream}/"\napi_key_location = "none"\n'
    )

    def base_url(log: str) -> str | None:
        """It picks its own port; the launcher prints the base URL once it listens. It has no door but OpenAI's, so a 404 is a welcome."""
        return next((line for line in log.splitlines() if line.startswith("http://")), None)

    server = Server(
        "tensorzero",
        [str(PEERS / "tensorzero/bin/python"), str(ROOT / "bench/peers/tensorzero_gateway.py"), str(config)],
        log=work / "tensorzero.log",
        ready_url=base_url,
        ready_status=404,
    )

    def target() -> Target:
        url = server.url + "/chat/completions"
        return Target(name="tensorzero", url=url, model="tensorzero::model_name::fast", headers={})

    return Gateway(server=server, target=target)


def portkey(work: Path, upstream: str, _workers: int) -> Gateway:
    """Portkey's gateway, one Node process, no auth, no ledger; the caller names provider and host."""
    port = free_port()
    script = PEERS / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    server = Server(
        "portkey",
        ["node", "--require", str(ROOT / "bench/peers/loopback.cjs"), str(script), f"--port={port}", "--headless"],
        log=work / "portkey.log",
        ready_url=f"http://127.0.0.1:{port}/",
    )
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    headers = {**_bearer("sk-test"), "x-portkey-provider": "openai", "x-portkey-custom-host": upstream}
    return Gateway(server=server, target=lambda: Target(name="portkey", url=url, model="gpt-4o-mini", headers=headers))


PEER_SETUPS: dict[str, Callable[[Path, str, int], Gateway]] = {"litellm": litellm, "tensorzero": tensorzero, "portkey": portkey}


def installed(peer: str) -> bool:
    """Whether bench/peers.sh has set this peer up."""
    return (PEERS / peer / ".installed").exists()


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
