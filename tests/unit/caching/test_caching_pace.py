"""How many questions are embedded: by what they bring, and never more than a share of a core."""

from __future__ import annotations

from farthing.caching.pace import Pace

KIND = ("acme", "default", "fast")
OTHER = ("acme", "default", "slow")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def paced(clock: Clock, **rates: float) -> Pace:
    return Pace(**{"rate": 100.0, "idle_rate": 5.0, "min_hit_rate": 0.01, **rates}, clock=clock)


def let_in(pace: Pace, times: int, *, hits: int = 0, text: str = "short", kind: tuple[str, str, str] = KIND) -> int:
    """How many of so many questions are looked at; the first `hits` of them hit."""
    done = 0
    for _ in range(times):
        if pace.due(kind):
            pace.took(kind, text)
            pace.looked(kind, hit=done < hits)
            done += 1
    return done


def test_all_are_looked_at_up_to_the_rate() -> None:
    clock = Clock()
    pace = paced(clock)
    assert let_in(pace, 250) == 100
    assert pace.skipped == 150
    clock.now = 0.5
    assert let_in(pace, 250) == 50
    clock.now = 1000
    assert let_in(pace, 250, hits=50) == 100, "a quiet time is not saved up"


def test_a_long_question_counts_as_several() -> None:
    clock = Clock()
    assert let_in(paced(clock), 250, text="x" * 590) == 10


def test_traffic_that_brings_no_hits_gets_a_trickle_and_comes_back_when_it_does() -> None:
    clock = Clock()
    pace = paced(clock)
    for second in range(3):
        clock.now = second
        let_in(pace, 100)
    clock.now = 10
    assert let_in(pace, 100) == 5
    assert let_in(pace, 50, kind=OTHER) == 50, "each kind by itself"
    clock.now = 11
    assert let_in(pace, 100, hits=3) > 50, "three hits in a hundred and more: it pays"


def test_old_misses_are_forgotten() -> None:
    clock = Clock()
    pace = paced(clock, rate=1e9)
    assert let_in(pace, 100_000, hits=2000) > 2000


def test_without_a_least_hit_rate_all_pay() -> None:
    clock = Clock()
    pace = paced(clock, rate=1e9, min_hit_rate=0.0)
    assert let_in(pace, 10_000) == 10_000


def test_kinds_are_bounded() -> None:
    clock = Clock()
    pace = paced(clock, rate=1e9)
    for number in range(20_000):
        pace.took((f"tenant {number}", "default", "fast"), "x")
    assert len(pace._records) == 10_000
