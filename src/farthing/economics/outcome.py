"""What a simulation says: one run as figures, two runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

from farthing.economics.simulation import TICK_S, Account, Change
from farthing.types import Json

_USD = 1_000_000


def figures(account: Account, *, began_s: float, over_s: float) -> Json:
    """A run. `began_s` and `over_s` are when the load rose and fell.

    `spend_usd_per_hour` is the worst rolling hour. `noticed_s`: from the rise to the first worse mode's being in force; `reaction_s`: the
    longest time from a look at which the policy had nothing to change to the change's being in force everywhere. `back_in_deep_after_s`:
    from the fall until no scope was in a worse mode; None: never, or there was none.
    """
    down = [change for change in account.changes if change.modes]
    last = account.changes[-1] if account.changes else None
    return {
        "spend_usd_per_hour": account.worst_hour_microusd / _USD,
        "spend_usd_per_window": account.worst_window_microusd / _USD,
        "spend_usd": account.spent_microusd / _USD,
        "requests": account.requests,
        "refused": account.refused,
        "mode_changes": len(account.changes),
        "changes_by_scope": _changes_by_scope(account.changes),
        "by_model": dict(account.by_model.most_common()),
        "by_mode_by_tier": {tier: dict(modes) for tier, modes in account.by_mode_by_tier.items()},
        "peak_calls": dict(account.peak_calls.most_common()),
        "noticed_s": down[0].in_force_at - began_s if down else None,
        "reaction_s": max((change.in_force_at - change.at + TICK_S for change in account.changes), default=None),
        "back_in_deep_after_s": last.in_force_at - over_s if last is not None and not last.modes else None,
        "changes": [_told(change) for change in account.changes],
    }


def _changes_by_scope(changes: Sequence[Change]) -> dict[str, int]:
    """How often the mode of each scope changed."""
    found: dict[str, int] = {}
    before: dict[str, str] = {}
    for change in changes:
        for scope in before.keys() | change.modes.keys():
            if before.get(scope) != change.modes.get(scope):
                found[scope] = found.get(scope, 0) + 1
        before = change.modes
    return found


def _told(change: Change) -> Json:
    return {"at_s": change.at, "in_force_at_s": change.in_force_at, "modes": change.modes, "reason": change.reason}


def timeline(held: Account, free: Account) -> list[Json]:
    """Minute by minute, with modes and without."""
    return [
        {
            "minute": minute,
            "requests": one.requests,
            "refused": one.refused,
            "modes": one.modes,
            "by_model": dict(one.by_model),
            "usd": one.microusd / _USD,
            "window_usd": one.window_microusd / _USD,
            "usd_without": other.microusd / _USD,
            "window_usd_without": other.window_microusd / _USD,
        }
        for minute, (one, other) in enumerate(zip(held.spans, free.spans, strict=False))
    ]
