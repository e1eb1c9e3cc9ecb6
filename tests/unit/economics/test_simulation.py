from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.economics.arrivals import Sample
from farthing.economics.outcome import figures, timeline
from farthing.economics.plot import picture
from farthing.economics.simulation import ADOPTION_S, EPOCH, TICK_S, Account, Asked, Clock, Rolling, Served, Simulation
from farthing.errors import NotAllowed
from farthing.modes import effective
from farthing.types import DEEP, Mode, ModeEntry, ModeState, Principal, SpendRow

LADDER = (DEEP, Mode(name="CHEAP", rank=1, model="small"))
FREE = Principal(key_id=UUID(int=1), tenant="t", tier="free")
PRO = Principal(key_id=UUID(int=2), tenant="t", tier="pro")
SAMPLE = Sample(messages=[{"role": "user", "content": "x"}], answer_tokens=1)


class Till:
    """Answers for a dollar in the best mode, for nothing in the other; takes `seconds`. Refuses users named `nobody`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def serve(self, asked: Asked, mode: Mode, now: datetime) -> Served:
        assert now == datetime.fromtimestamp(EPOCH + asked.at, UTC)
        if asked.who.user == "nobody":
            raise NotAllowed("no")
        return Served(model=mode.model or "large", microusd=0 if mode.model else 1_000_000, seconds=self._seconds)


class Switch:
    """Puts everybody into the cheap mode between two times."""

    def __init__(self, clock: Clock, down_at: float, up_at: float) -> None:
        self._clock = clock
        self._times = (down_at, up_at)
        self.under_way: Counter[tuple[str, str | None]] = Counter()
        self.rows: list[tuple[float, SpendRow]] = []

    def came(self, who: Principal, mode: str | None) -> None:
        self.under_way[who.tier, mode] += 1

    def ended(self, who: Principal, mode: str | None) -> None:
        self.under_way[who.tier, mode] -= 1

    def saw(self, row: SpendRow) -> None:
        self.rows.append((self._clock.now - EPOCH, row))

    def decide(self, state: ModeState) -> ModeState | None:
        now = self._clock.now - EPOCH
        down = self._times[0] <= now < self._times[1]
        if down == bool(state.entries):
            return None
        at = datetime.fromtimestamp(self._clock.now, UTC)
        return ModeState(entries={"total": ModeEntry(mode="CHEAP", since=at, reason="so much")} if down else {})


async def simulated(
    times: Sequence[float],
    *,
    seconds: float = 2.0,
    switch: tuple[float, float] | None = None,
    who: Principal = FREE,
    ends_at: float = 130.0,
) -> tuple[Account, Switch | None]:
    clock = Clock()
    control = Switch(clock, *switch) if switch else None
    tiers = {"free": FREE, "pro": PRO}
    simulation = Simulation(
        Till(seconds),
        control,
        clock,
        lambda state, one, now: effective(state, one, LADDER, now),
        tiers,
        window_s=60,
        watched=[str(FREE.key_id)],
    )
    account = await simulation.run(iter([Asked(at, who, SAMPLE) for at in times]), ends_at)
    return account, control


async def test_money_is_seen_when_the_answer_has_ended() -> None:
    account, control = await simulated([10.0, 11.0], switch=(1000, 2000))
    assert control is not None
    assert [at for at, _ in control.rows] == [12.0, 13.0]
    (_, row), _ = control.rows
    assert (row.at, row.tenant, row.tier, row.key_id, row.mode, row.microusd, row.requests) == (
        EPOCH + 12.0,
        "t",
        "free",
        str(FREE.key_id),
        None,
        1_000_000,
        1,
    )
    assert account.spent_microusd == 2_000_000


async def test_answers_under_way_at_the_end_are_waited_for() -> None:
    account, _ = await simulated([129.0], seconds=50)
    assert account.spent_microusd == 1_000_000
    assert account.peak_calls == {"large": 1}


async def test_a_decision_holds_when_everybody_has_it() -> None:
    times = [20.0 + ADOPTION_S - 0.01, 20.0 + ADOPTION_S + 0.01, 40.0 + ADOPTION_S + 0.01]
    account, control = await simulated(times, switch=(20.0, 40.0))
    assert control is not None
    assert control.under_way == {("free", None): 0, ("free", "CHEAP"): 0}
    assert account.by_mode_by_tier["free"] == {"DEEP": 2, "CHEAP": 1}
    assert account.by_mode_of_key == {str(FREE.key_id): {"DEEP": 2, "CHEAP": 1}}
    assert [(change.at, change.in_force_at, change.modes) for change in account.changes] == [
        (20.0, 20.0 + ADOPTION_S, {"total": "CHEAP"}),
        (40.0, 40.0 + ADOPTION_S, {}),
    ]
    assert [span.modes for span in account.spans[:2]] == [{"free": "DEEP", "pro": "DEEP"}] * 2
    found = figures(account, began_s=15.0, over_s=30.0)
    assert found["noticed_s"] == pytest.approx(5.0 + ADOPTION_S)
    assert found["reaction_s"] == pytest.approx(TICK_S + ADOPTION_S)
    assert found["back_in_deep_after_s"] == pytest.approx(10.0 + ADOPTION_S)
    assert (found["mode_changes"], found["changes_by_scope"]) == (2, {"total": 2})


async def test_refusals_are_counted_and_cost_nothing() -> None:
    account, _ = await simulated([1.0, 2.0], who=Principal(key_id=UUID(int=1), tenant="t", user="nobody"))
    assert (account.requests, account.refused, account.spent_microusd) == (2, 2, 0)
    assert figures(account, began_s=0, over_s=1)["by_model"] == {}


async def test_whoever_never_came_back_is_said_so() -> None:
    account, _ = await simulated([], switch=(20.0, 10_000.0))
    found = figures(account, began_s=15.0, over_s=30.0)
    assert (found["mode_changes"], found["back_in_deep_after_s"]) == (1, None)


@given(st.lists(st.tuples(st.floats(0, 10_000), st.integers(0, 1000)), max_size=60), st.floats(1, 5000))
def test_the_worst_window_is_the_worst_of_all_windows(spent: list[tuple[float, int]], window_s: float) -> None:
    spent.sort()
    rolling = Rolling(window_s)
    worst = max((rolling.add(at, microusd) for at, microusd in spent), default=0)
    assert worst == max((sum(cost for then, cost in spent if at - window_s < then <= at) for at, _ in spent), default=0)


async def test_minutes_add_up_and_the_picture_shows_them() -> None:
    times = [at * 0.5 for at in range(200)]
    held, _ = await simulated(times, switch=(20.0, 40.0))
    free, _ = await simulated(times)
    rows = timeline(held, free)
    assert sum(row["requests"] for row in rows) == 200
    assert sum(row["usd"] for row in rows) == pytest.approx(held.spent_microusd / 1e6)
    assert sum(row["usd_without"] for row in rows) == pytest.approx(200)
    assert max(row["window_usd"] for row in rows) == held.worst_window_microusd / 1e6
    svg = picture({"timeline": rows, "ceiling_usd": 50.0, "window_s": 60.0}, ["DEEP", "CHEAP"])
    drawn = ET.fromstring(svg)  # noqa: S314 - our own
    texts = [one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"large", "small", "DEEP", "CHEAP", "free", "pro", "with modes", "without"} <= set(texts)
    assert len([*drawn.iter("{http://www.w3.org/2000/svg}polyline")]) == 2


def test_names_cannot_break_the_picture() -> None:
    row = {"minute": 0, "modes": {"<tier>": "&"}, "by_model": {'"><script>': 1}, "window_usd": 0.0, "window_usd_without": 0.0}
    ET.fromstring(picture({"timeline": [row], "ceiling_usd": 1.0, "window_s": 60.0}, ["&"]))  # noqa: S314 - our own
