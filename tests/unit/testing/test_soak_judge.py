"""The soak's judge finds what is planted: it is the test of all other tests under load, and must not be blind itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[3] / "bench"))  # the harness is a script, not a part of the package

from msgspec.structs import replace

from soaking.facts import Ask, Row, Served, Tenant, Try, Window
from soaking.judge import Judge, Verdict
from soaking.weights import SURE, drift

TENANTS = [Tenant(name="acme", key="k", may=frozenset({"insufficient_quota"})), Tenant(name="other", key="k")]
DEATH = Window(fault="worker_kill", began=10.0, ended=10.0, killed_at=[10.0])


class World:
    """One question of each of two tenants, answered rightly and written down rightly."""

    def __init__(self) -> None:
        self.asks: dict[str, Ask] = {}
        self.served: list[Served] = []
        self.rows: list[Row] = []
        for at, tenant in enumerate(("acme", "other")):
            self.add(f"ask-{at}", tenant, "What is common?")

    def add(self, ask_id: str, tenant: str, question: str) -> None:
        text = f"{question} | n-{ask_id} | and more"
        tried = Try(at=1.0, ended=2.0, request_id=f"r-{ask_id}", status=200, source="model", cost=700, complete=True)
        common: dict[str, Any] = {"tokens_in": 3, "tokens_out": 2, "cost": 700}
        self.asks[ask_id] = Ask(
            id=ask_id,
            tenant=tenant,
            door="chat",
            stream=False,
            model="main",
            question=question,
            at=1.0,
            ended=2.0,
            tries=[tried],
            outcome="answered",
            text=text,
        )
        self.served.append(Served(nonce=f"n-{ask_id}", ask_id=ask_id, model="one", text=text, complete=True, at=1.5, took_s=0.1, **common))
        self.rows.append(
            Row(
                request_id=f"r-{ask_id}",
                attempt=1,
                final=True,
                tenant=tenant,
                ask_id=ask_id,
                source="model",
                upstream_model="one",
                usage_source="provider",
                status=200,
                error=None,
                **common,
            )
        )

    def verdict(self) -> Verdict:
        return Judge(self.asks, self.served, TENANTS, [DEATH]).judge(self.rows)


def findings(verdict: Verdict) -> dict[str, int]:
    """What is not nothing."""
    names = ("wrong", "lost", "lost_rows", "doubled", "misbilled")
    return {name: getattr(verdict, name).count for name in names if getattr(verdict, name).count}


def test_a_world_in_order_has_no_findings() -> None:
    verdict = World().verdict()
    assert findings(verdict) == {}
    assert (verdict.rows_expected, verdict.rows_found, verdict.served_cost, verdict.billed_cost) == (2, 2, 1400, 1400)


def _answer_of_another_tenant(world: World) -> None:
    world.asks["ask-0"].text = world.asks["ask-1"].text


def _answer_that_was_never_given(world: World) -> None:
    world.asks["ask-0"].text = "What is common? | n-invented | and more"


def _answer_cut_short(world: World) -> None:
    world.asks["ask-0"].text = world.asks["ask-0"].text[:-1]


def _answer_to_another_question(world: World) -> None:
    world.asks["ask-0"].question = "What is rare?"


def _silent_end(world: World) -> None:
    world.asks["ask-0"].outcome = "silent"


def _cut_without_a_death(world: World) -> None:
    world.asks["ask-0"].outcome = "cut"


def _refused_without_a_reason(world: World) -> None:
    world.asks["ask-1"].outcome, world.asks["ask-1"].code = "refused", "insufficient_quota"


def _no_row(world: World) -> None:
    del world.rows[0]


def _no_row_of_an_attempt(world: World) -> None:
    world.served.append(replace(world.served[0], nonce="n-second", model="two"))


def _two_final_rows(world: World) -> None:
    world.rows.append(replace(world.rows[0], attempt=2))


def _a_doubled_attempt(world: World) -> None:
    world.rows += [replace(world.rows[0], final=False)]


def _another_cost(world: World) -> None:
    world.rows[0] = replace(world.rows[0], cost=701)


def _another_tenants_row(world: World) -> None:
    world.rows[0] = replace(world.rows[0], tenant="other")


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (_answer_of_another_tenant, {"wrong"}),
        (_answer_that_was_never_given, {"wrong"}),
        (_answer_cut_short, {"wrong"}),
        (_answer_to_another_question, {"wrong"}),
        (_silent_end, {"wrong"}),
        (_cut_without_a_death, {"wrong"}),
        (_refused_without_a_reason, {"lost"}),
        (_no_row, {"lost_rows"}),
        (_no_row_of_an_attempt, {"lost_rows"}),
        (_two_final_rows, {"doubled"}),
        (_a_doubled_attempt, {"doubled"}),
        (_another_cost, {"misbilled"}),
        (_another_tenants_row, {"misbilled"}),
    ],
)
def test_what_is_planted_is_found_and_nothing_else(plant: Callable[[World], None], found: set[str]) -> None:
    world = World()
    plant(world)
    assert set(findings(world.verdict())) == found


def test_a_try_that_died_with_its_worker_is_told_apart_with_what_it_cost() -> None:
    world = World()
    died = Try(at=9.0, ended=10.2, error="ReadError", retry=True)
    world.asks["ask-0"].tries.insert(0, died)
    world.served.append(replace(world.served[0], nonce="n-died", at=9.5))
    verdict = world.verdict()
    assert findings(verdict) == {}
    assert (verdict.died.count, verdict.died_cost) == (1, {"acme": 700})


def test_a_death_excuses_no_row_of_an_answer_that_was_complete() -> None:
    world = World()
    world.asks["ask-0"].tries[0].ended = 10.1
    del world.rows[0]
    assert set(findings(world.verdict())) == {"lost_rows"}


@pytest.mark.parametrize(("error", "late"), [("upstream_timeout", 1), ("upstream_unavailable", 0)])
def test_only_an_answer_that_came_after_its_time_out_may_be_billed_by_estimate(error: str, late: int) -> None:
    world = World()
    row = replace(world.rows[0], status=504, error=error, usage_source="estimated", cost=100, final=False, attempt=1)
    world.rows.append(replace(row, upstream_model="two"))
    world.served.append(replace(world.served[0], nonce="n-late", model="two"))
    verdict = world.verdict()
    assert (verdict.late.count, verdict.late_cost, verdict.misbilled.count) == (late, late * 700, 1 - late)


def test_steady_growth_is_no_noise_and_a_memory_that_wanders_is() -> None:
    grow, error = drift([(float(x), 70.0 + 0.25 * x) for x in range(160)])
    assert grow == pytest.approx(0.25)
    assert error == pytest.approx(0.0, abs=1e-9)
    assert drift([(float(x), 70.0) for x in range(160)]) == (0.0, 0.0)
    step, error = drift([(float(x), 70.0 + (x >= 80)) for x in range(160)])
    assert 0 < step <= SURE * error
