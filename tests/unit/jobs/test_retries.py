from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import InvalidRequest, Overloaded
from farthing.jobs.retries import LONGEST_PAUSE_S, after
from farthing.types import Item, Lease, new_id


def lease(attempt: int, attempts: int = 5, backoff_s: float = 1.0) -> Lease:
    item = Item(run=new_id(), kind="k", tenant="", key="a", payload={}, attempt=attempt)
    return Lease(id=1, number=attempt, item=item, attempts=attempts, deadline_s=1, backoff_s=backoff_s)


def test_the_pause_doubles_from_attempt_to_attempt() -> None:
    assert [after(lease(n), RuntimeError(), 1.0).delay_s for n in (1, 2, 3, 4)] == [1, 2, 4, 8]


@given(st.integers(1, 10_000), st.floats(0.001, 1e6), st.floats(0, 1))
def test_the_pause_is_between_half_of_it_and_all_of_it_and_bounded(attempt: int, backoff_s: float, dice: float) -> None:
    ending = after(lease(attempt, 20_000, backoff_s), RuntimeError("no"), dice)
    full = min(backoff_s * 2 ** min(attempt - 1, 60), LONGEST_PAUSE_S)
    assert ending.state == "retry"
    assert full / 2 <= ending.delay_s <= full


@given(st.integers(1, 100), st.integers(1, 100))
def test_it_fails_when_the_attempts_are_used_up_and_not_before(attempt: int, attempts: int) -> None:
    assert after(lease(attempt, attempts), RuntimeError(), 0).state == ("failed" if attempt >= attempts else "retry")


def test_an_error_that_no_retry_helps_is_final_at_once() -> None:
    ending = after(lease(1), InvalidRequest("it is no PDF"), 0)
    assert (ending.state, ending.error) == ("failed", "it is no PDF")


def test_who_says_how_long_to_wait_is_believed_within_bounds() -> None:
    assert after(lease(1), Overloaded("busy", retry_after_s=30), 0).delay_s == 30
    assert after(lease(1), Overloaded("busy", retry_after_s=1e9), 0).delay_s == LONGEST_PAUSE_S


def test_an_error_is_kept_in_bounds_and_with_its_class() -> None:
    said = after(lease(1), ValueError("x" * 10_000), 0).error
    assert said is not None
    assert said.startswith("ValueError: x")
    assert len(said) == 1000
