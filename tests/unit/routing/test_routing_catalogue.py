from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from farthing.errors import (
    ModelNotFound,
    NotAllowed,
    UpstreamError,
    UpstreamMalformed,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from farthing.ports import Call
from farthing.routing.catalogue import Catalogue, Cooldown, Deployment, Model
from farthing.types import Completion, Json, Operation, Price, Principal

ALL = Principal(key_id=UUID(int=1), tenant="t")


def rng() -> random.Random:
    return random.Random(7)  # noqa: S311 - the same draws each time


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Nowhere:
    """A provider that is never called."""

    kind = "nowhere"
    open_connections = 0

    def __init__(self, name: str) -> None:
        self.name = name

    async def healthy(self) -> bool:
        return False

    async def chat(self, call: Call) -> Completion:
        raise AssertionError(call)

    async def embed(self, call: Call) -> Completion:
        raise AssertionError(call)

    async def stream(self, call: Call) -> AsyncGenerator[tuple[Json | None, Json | None], None]:
        raise AssertionError(call)
        yield

    async def aclose(self) -> None:
        pass


def deployment(upstream: str, weight: int = 1, *, model: str = "fast", clock: Clock | None = None, failures: int = 3) -> Deployment:
    return Deployment(
        model=model,
        provider=Nowhere("p"),
        upstream_model=upstream,
        weight=weight,
        price=Price(),
        retries=1,
        cooldown=Cooldown(failures, 30.0, clock or Clock()),
    )


def model(name: str, *deployments: Deployment, **more: Any) -> Model:
    return Model(name=name, operation=more.pop("operation", Operation.CHAT), deployments=deployments, **more)


def plan(catalogue: Catalogue, name: str = "fast") -> list[str]:
    return [one.upstream_model for one in catalogue.plan(name)]


# Cooldown


def test_failures_in_a_row_cool_a_deployment_down_for_a_while() -> None:
    clock = Clock()
    cooldown = Cooldown(3, 30.0, clock)
    for expected in (False, False, True):
        cooldown.failed(UpstreamUnavailable("no"))
        assert cooldown.active is expected
    clock.now += 29.9
    assert cooldown.active
    clock.now += 0.2
    assert not cooldown.active
    cooldown.failed(UpstreamTimeout("no"))
    assert cooldown.active, "still failing: one more failure is enough"


def test_a_success_forgets_earlier_failures() -> None:
    cooldown = Cooldown(2, 30.0, Clock())
    cooldown.failed(UpstreamMalformed("no"))
    cooldown.succeeded()
    cooldown.failed(UpstreamMalformed("no"))
    assert not cooldown.active
    cooldown.failed(UpstreamMalformed("no"))
    cooldown.succeeded()
    assert not cooldown.active


def test_a_rejected_request_says_nothing_about_the_provider() -> None:
    cooldown = Cooldown(1, 30.0, Clock())
    for _ in range(10):
        cooldown.failed(UpstreamRejected("your fault", upstream_status=400))
    assert not cooldown.active


@pytest.mark.parametrize(("wish", "seconds"), [(5.0, 5.0), (0.25, 0.25), (86_400.0, 600.0)])
def test_a_rate_limit_cools_down_at_once_for_as_long_as_it_asked_within_reason(wish: float, seconds: float) -> None:
    clock = Clock()
    cooldown = Cooldown(3, 30.0, clock)
    cooldown.failed(UpstreamRateLimited("slow down", retry_after_s=wish))
    clock.now += seconds - 0.01
    assert cooldown.active
    clock.now += 0.02
    assert not cooldown.active


@pytest.mark.parametrize("wish", [None, 0.0])
def test_a_rate_limit_that_names_no_time_counts_as_a_failure(wish: float | None) -> None:
    cooldown = Cooldown(2, 30.0, Clock())
    error: UpstreamError = UpstreamRateLimited("slow down", retry_after_s=wish)
    cooldown.failed(error)
    assert not cooldown.active
    cooldown.failed(error)
    assert cooldown.active


# The plan


def test_traffic_is_shared_by_weight() -> None:
    catalogue = Catalogue([model("fast", deployment("a", 6), deployment("b", 3), deployment("c", 1))], rng())
    draws = 20_000
    first = Counter(plan(catalogue)[0] for _ in range(draws))
    for name, share in {"a": 0.6, "b": 0.3, "c": 0.1}.items():
        sigma = math.sqrt(share * (1 - share) / draws)
        assert abs(first[name] / draws - share) < 5 * sigma


def test_every_plan_has_each_deployment_once() -> None:
    catalogue = Catalogue([model("fast", *(deployment(str(at), at) for at in range(5)))], rng())
    assert all(sorted(plan(catalogue)) == ["0", "1", "2", "3", "4"] for _ in range(200))


def test_weight_zero_is_only_a_fallback() -> None:
    catalogue = Catalogue([model("fast", deployment("spare", 0), deployment("a", 1), deployment("b", 1000))], rng())
    assert {plan(catalogue)[-1] for _ in range(500)} == {"spare"}


def test_fallback_models_come_after_the_models_own_in_the_order_of_the_settings() -> None:
    catalogue = Catalogue(
        [
            model("fast", deployment("a"), deployment("a0", 0), fallbacks=("second", "third")),
            model("third", deployment("t", model="third")),
            model("second", deployment("s1", model="second"), deployment("s2", model="second")),
        ],
        rng(),
    )
    for _ in range(50):
        found = plan(catalogue)
        assert found[:2] == ["a", "a0"]
        assert sorted(found[2:4]) == ["s1", "s2"]
        assert found[4:] == ["t"]


def test_fallbacks_are_not_followed_further() -> None:
    catalogue = Catalogue(
        [
            model("fast", deployment("a"), fallbacks=("second",)),
            model("second", deployment("s", model="second"), fallbacks=("fast",)),
        ],
        rng(),
    )
    assert plan(catalogue) == ["a", "s"]


def test_what_is_cooling_down_is_tried_last_but_is_tried() -> None:
    clock = Clock()
    tired = deployment("tired", 1000, clock=clock, failures=1)
    catalogue = Catalogue([model("fast", tired, deployment("fresh", 1), fallbacks=("b",)), model("b", deployment("other"))], rng())
    tired.cooldown.failed(UpstreamUnavailable("no"))
    assert plan(catalogue) == ["fresh", "other", "tired"]
    clock.now += 31
    assert Counter(plan(catalogue)[0] for _ in range(100))["tired"] > 90


def test_a_lone_deployment_is_tried_even_while_it_cools_down() -> None:
    lone = deployment("lone", failures=1)
    lone.cooldown.failed(UpstreamUnavailable("no"))
    assert plan(Catalogue([model("fast", lone)], rng())) == ["lone"]


# Who may use what


def catalogue() -> Catalogue:
    models = [
        model("fast", deployment("a")),
        model("strong", deployment("b")),
        model("vectors", deployment("v"), operation=Operation.EMBEDDINGS),
    ]
    return Catalogue(models, rng())


def test_an_unknown_model_lists_those_that_exist_for_the_purpose() -> None:
    with pytest.raises(ModelNotFound, match=r"The model 'fsat' does not exist\. Models for chat: fast, strong\.") as caught:
        catalogue().admit("fsat", ALL, Operation.CHAT)
    assert caught.value.param == "model"


def test_a_model_for_something_else_is_not_found_either() -> None:
    with pytest.raises(ModelNotFound, match=r"'vectors' is not for chat"):
        catalogue().admit("vectors", ALL, Operation.CHAT)
    with pytest.raises(ModelNotFound, match=r"'fast' is not for embeddings\. Models for embeddings: vectors"):
        catalogue().admit("fast", ALL, Operation.EMBEDDINGS)


def test_a_key_with_a_list_sees_and_may_use_only_that() -> None:
    some = msgspec.structs.replace(ALL, models=frozenset({"strong"}))
    assert [one.name for one in catalogue().visible(some)] == ["strong"]
    assert catalogue().admit("strong", some, Operation.CHAT)
    with pytest.raises(NotAllowed, match=r"may not use the model 'fast'\. It may use: strong"):
        catalogue().admit("fast", some, Operation.CHAT)
    with pytest.raises(ModelNotFound, match=r"Models for chat: strong\."):
        catalogue().admit("nope", some, Operation.CHAT)


def test_a_gigantic_name_is_not_echoed_whole() -> None:
    with pytest.raises(ModelNotFound) as caught:
        catalogue().admit("x" * 10**6, ALL, Operation.CHAT)
    assert len(caught.value.message) < 400


def test_the_fingerprint_changes_with_what_the_name_means_and_with_nothing_else() -> None:
    one = model("fast", deployment("a"), deployment("b", 5))
    same = model("renamed", deployment("b", 1), deployment("a", 9), tags=("x",))
    assert one.fingerprint == same.fingerprint
    assert len({one.fingerprint, model("fast", deployment("a")).fingerprint, model("fast", deployment("ab")).fingerprint}) == 3
