import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.foresight.predict import OTHERS, Candidate, Prior, choose, click_probability, draw_of, segment_of
from farthing.types import ActionCounts

PRIOR = Prior(click=0.3, weight=4)
amounts = st.floats(0, 1e6)
counts = st.builds(
    ActionCounts, action=st.just("a"), segment=st.sampled_from(["", "pro", "free"]), read=amounts, stale=amounts, expired=amounts
)


def candidate(action: str, **facts: float) -> Candidate:
    usual = {"click": 0.5, "known": 10.0, "cost_microusd": 100.0, "latency_microusd": 1000.0}
    return Candidate(action=action, segment="", **{**usual, **facts})


candidates = st.lists(
    st.builds(
        Candidate,
        action=st.text(max_size=3),
        segment=st.just(""),
        click=st.floats(0, 1),
        known=amounts,
        cost_microusd=amounts,
        latency_microusd=amounts,
    ),
    max_size=8,
    unique_by=lambda one: one.action,
)


@given(st.lists(counts, max_size=6), st.sampled_from(["", "pro", "new"]))
def test_a_probability_lies_between_none_and_all(several: list[ActionCounts], segment: str) -> None:
    click, known = click_probability(several, segment, PRIOR)
    assert 0 < click < 1 or (several and 0 <= click <= 1)
    assert known >= 0


def test_before_anything_is_known_the_guess_of_the_settings_holds() -> None:
    click, known = click_probability([], "pro", PRIOR)
    assert click == pytest.approx(0.3)
    assert known == 0


def test_a_new_segment_begins_where_its_action_stands() -> None:
    known = [ActionCounts(action="a", segment="free", read=900, expired=100)]
    assert click_probability(known, "pro", PRIOR)[0] == pytest.approx(0.9, abs=0.01)


def test_much_that_is_known_of_a_segment_outweighs_its_action() -> None:
    known = [
        ActionCounts(action="a", segment="free", read=1000),
        ActionCounts(action="a", segment="pro", stale=500, expired=500),
    ]
    assert click_probability(known, "pro", PRIOR)[0] < 0.01
    assert click_probability(known, "free", PRIOR)[0] > 0.99


@given(st.lists(counts, max_size=6), st.sampled_from(["", "pro"]))
def test_one_more_that_is_read_never_makes_a_click_less_likely(several: list[ActionCounts], segment: str) -> None:
    more = [*several, ActionCounts(action="a", segment=segment, read=1)]
    less = [*several, ActionCounts(action="a", segment=segment, expired=1)]
    now = click_probability(several, segment, PRIOR)[0]
    assert click_probability(less, segment, PRIOR)[0] <= now + 1e-12
    assert click_probability(more, segment, PRIOR)[0] >= now - 1e-12


@given(candidates, st.integers(1, 5), st.floats(0, 1), st.floats(0, 1))
def test_what_is_chosen_pays_is_within_bounds_and_nothing_better_is_left(
    given_ones: list[Candidate], most: int, explore: float, draw: float
) -> None:
    chosen = choose(given_ones, most=most, explore=explore, draw=draw)
    assert len(chosen) <= most
    assert len({one.candidate.action for one in chosen}) == len(chosen)
    paying = [one.candidate for one in chosen if not one.explores]
    assert all(one.value_microusd > 0 for one in paying)
    assert len(chosen) - len(paying) <= (draw < explore)
    left = [one for one in given_ones if one not in [choice.candidate for choice in chosen]]
    if draw >= explore and len(paying) == most:
        assert min(one.value_microusd for one in paying) >= max((one.value_microusd for one in left), default=0)


def test_an_answer_that_nobody_reads_is_not_computed_any_more() -> None:
    worth_it = candidate("a", click=0.1, cost_microusd=100, latency_microusd=1000)
    not_worth_it = candidate("b", click=0.05, cost_microusd=100, latency_microusd=1000)
    assert [one.candidate.action for one in choose([worth_it, not_worth_it], most=3, explore=0, draw=0)] == ["a"]


def test_exploring_tries_what_least_is_known_of() -> None:
    ones = [candidate("a"), candidate("b"), candidate("c", click=0, known=50), candidate("d", click=0, known=2)]
    chosen = choose(ones, most=2, explore=0.1, draw=0.05)
    assert [(one.candidate.action, one.explores) for one in chosen] == [("a", False), ("d", True)]
    assert [one.candidate.action for one in choose(ones, most=2, explore=0.1, draw=0.5)] == ["a", "b"]


def test_the_share_of_events_that_explore_is_the_one_that_was_set() -> None:
    ones = [candidate("a"), candidate("b", click=0)]
    tried = sum(len(choose(ones, most=3, explore=0.1, draw=draw_of("acme", "app", str(number)))) == 2 for number in range(5000))
    assert 400 < tried < 600


def test_the_same_event_draws_the_same() -> None:
    assert draw_of("acme", "app", "1") == draw_of("acme", "app", "1") != draw_of("acme", "app", "2")


@given(st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.lists(st.text()), st.floats()))
def test_a_segment_is_a_short_name_whatever_the_event_says(value: object) -> None:
    name = segment_of(value, [], most=2)
    assert len(name) <= 64
    assert name.isprintable()


def test_segments_beyond_the_bound_are_one() -> None:
    known = [ActionCounts(action="a", segment="pro"), ActionCounts(action="a", segment="free"), ActionCounts(action="a", segment="")]
    assert segment_of("pro", known, most=2) == "pro"
    assert segment_of("team", known, most=2) == OTHERS
    assert segment_of("team", known, most=3) == "team"
