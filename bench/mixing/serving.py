"""The replay through a real `farthing up` with scripted models behind it: what came back, and what the ledger says that it cost."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from farthing.routing.learned.model import LearnedModel
from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, serve_in_thread
from farthing.types import Json
from mixing.answers import JUDGE, Assumed, Models, right
from mixing.questions import STRONG, WEAK, Question, body_of

UPSTREAM = {WEAK: ("mistral", "open-mixtral-8x7b"), STRONG: ("openai", "gpt-4-1106-preview")}
"""Vendor, by whose prices in genai-prices the models are billed, and the vendor's name of the model."""
CHECKS = [{"kind": kind} for kind in ("empty", "refusal", "truncated", "json_schema")]
_LEARNERS = ("learned", "learned-checked", "learned-judged")
_AT_ONCE = 6
_WAIT_S = 60.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `models` are those that each request names; `quality` is asked for where a learned router is named."""

    name: str
    models: Sequence[str]
    quality: float | None = None
    assumed: Assumed = Assumed()


def settings(upstream: ScriptedUpstream, length: tuple[bool, int]) -> dict[str, Any]:
    """Both models at the prices that Farthing knows, the judge, and a router for each way. Without caches: nobody asks twice here."""
    both = [WEAK, STRONG]
    judge = JUDGE.model_dump(mode="json", include={"kind", "model"})
    cascades = {"checked": {"checks": CHECKS}, "judged": {"checks": [{**judge, "models": [WEAK], "timeout_s": _WAIT_S}]}}
    learned = {"embed_timeout_s": _WAIT_S}
    short, limit = length
    rule = {"name": "length", "when": {"tokens": {"max" if short else "min": limit}}, "use": WEAK}
    routers: dict[str, Any] = {
        "length": {"models": both, "rules": [rule]},
        "learned": {"models": both, "learned": learned},
        **{name: {"models": both, "otherwise": "cascade", "cascade": cascade} for name, cascade in cascades.items()},
        **{f"learned-{name}": {"models": both, "learned": learned, "cascade": cascade} for name, cascade in cascades.items()},
    }
    providers = {
        vendor: {"kind": "openai_compatible", "base_url": upstream.base_url, "api_key": "sk-scripted", "prices": vendor}
        for vendor, _ in UPSTREAM.values()
    }
    models = {name: {"provider": vendor, "upstream_model": model} for name, (vendor, model) in UPSTREAM.items()}
    return {
        "local": {"enabled": False},
        "cache": {"semantic": {"enabled": False}, "exact": {"enabled": False}},
        "ledger": {"flush_interval_s": 0.05},
        "providers": providers,
        "models": {**models, JUDGE.model: models[WEAK]},
        "routing": {"routers": routers},
    }


class Server:
    """A running installation in which a version of the learned router decides."""

    def __init__(self, farthing: Installation, upstream: ScriptedUpstream) -> None:
        self._farthing = farthing
        self._upstream = upstream
        self._admin = httpx.Client(
            base_url=f"{farthing.url}/admin/v1", headers={"authorization": f"Bearer {farthing.key}"}, timeout=_WAIT_S
        )

    def promote(self, model: LearnedModel, seen: Question) -> None:
        """Let it decide, and wait until it does."""
        artefact = base64.b64encode(model.dump()).decode()
        for router in _LEARNERS:
            self._post(f"/routers/{router}/versions", {"artefact": artefact, "metrics": {}})
            self._post(f"/routers/{router}/promote", {"version": 1})
        self._script({seen.prompt: seen}, Assumed())
        key, deadline = self._key("first"), time.monotonic() + _WAIT_S
        while not all(self._ask(key, router, seen, None)[1] == "learned" for router in _LEARNERS):
            if time.monotonic() > deadline:
                raise RuntimeError("the promoted version does not decide")
            time.sleep(0.1)

    def played(self, plan: Plan, questions: Sequence[Question]) -> dict[str, Any]:
        """Ask all of them, as a tenant of this plan's own."""
        self._script({one.prompt: one for one in questions}, plan.assumed)
        key = self._key(plan.name)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = list(pool.map(lambda pair: self._ask(key, pair[0], pair[1], plan.quality), zip(plan.models, questions, strict=True)))
        report = self._report(plan.name, len(questions))
        return {
            "n": len(questions),
            "right": sum(one[0] for one in answers),
            "strong": sum(one[2] == STRONG for one in answers),
            "microusd": report["spent_microusd"],
            "saved_by_report": report["saved_microusd"],
        }

    def _ask(self, key: str, model: str, question: Question, quality: float | None) -> tuple[bool, str, str]:
        """Whether the answer is right, what decided, and who answered."""
        extras: Json = {"farthing": {"route": {"quality": quality}}} if quality is not None else {}
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self._farthing.port, timeout=2 * _WAIT_S)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps({"model": model, **body_of(question.prompt), **extras}), headers)
            answer = connection.getresponse()
            body = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{answer.status}: {body}")
        said = body["choices"][0]["message"]["content"]
        return said == right(question), answer.headers["x-farthing-route"], answer.headers["x-farthing-model"]

    def _report(self, tenant: str, requests: int) -> dict[str, Any]:
        """What the ledger says, once it has all and says the same again."""
        before: dict[str, Any] = {}
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            found = self._farthing.report(tenant=tenant)
            if found["requests"] >= requests and found["spent_microusd"] == before.get("spent_microusd"):
                return found
            before = found
            time.sleep(0.5)
        raise RuntimeError(f"the ledger has {before.get('requests')} of {requests} requests of {tenant}")

    def _script(self, questions: dict[str, Question], assumed: Assumed) -> None:
        models = Models(questions, assumed)
        self._upstream.script(UPSTREAM[WEAK][1], models.weak)
        self._upstream.script(UPSTREAM[STRONG][1], models.strong)

    def _key(self, tenant: str) -> str:
        return str(self._post("/keys", {"tenant": tenant})["key"])

    def _post(self, path: str, body: Json) -> Json:
        answer = self._admin.post(path, json=body)
        if answer.is_error:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")
        made: Json = answer.json()
        return made

    def close(self) -> None:
        self._admin.close()


@contextmanager
def server(folder: Path, length: tuple[bool, int]) -> Iterator[Server]:
    with serve_in_thread() as upstream, Installation(folder, settings(upstream, length)) as farthing:
        running = Server(farthing, upstream)
        try:
            yield running
        finally:
            running.close()
