"""The whole loop on small made-up tenants that drift: bench/calibration.py plays larger ones and real questions."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "bench"))  # the streams are a script's, not a part of the package

from calibrating.policies import Online, Prior, Verdicts
from calibrating.replay import Outcome, best_threshold, replay
from calibrating.synthetic import Synthetic, Tenant
from farthing.caching.calibration import CalibrationSettings
from farthing.caching.risk import RiskSettings

DELTA = 0.02
RISK = RiskSettings(delta=DELTA)
TENANTS = [Synthetic(Tenant(length=6000, topics=4, entries=10, seed=seed)) for seed in (1, 2, 5)]


def ours(tenant: Synthetic) -> Outcome:
    return replay(tenant, Online(Verdicts(), risk=RISK, seed=1))


def test_with_verdicts_tenants_that_drift_keep_their_budget_and_are_served_twice_as_often_as_by_a_fixed_threshold() -> None:
    served = fixed = 0
    for tenant in TENANTS:
        found = ours(tenant)
        assert found.error_low <= DELTA
        served += found.served
        fixed += best_threshold(lambda tenant=tenant: tenant, max(found.error, DELTA))[1].served  # type: ignore[misc]
    assert served >= 2 * fixed
    assert served >= 3000


def test_without_verdicts_the_shipped_calibration_breaks_it() -> None:
    for tenant in TENANTS:
        assert replay(tenant, Prior(CalibrationSettings(), RISK)).error_low > DELTA


def test_a_replay_can_be_repeated() -> None:
    assert ours(TENANTS[0]) == ours(TENANTS[0])
