"""What workers tell each other of what they spend."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import InvalidRequest
from farthing.spend_news import MOST_BYTES, Hearing, SpendNews, numbers, pieces, read
from farthing.types import SpendRow

_TEXT = st.text(st.characters(codec="utf-8"), max_size=80)
_ROWS = st.builds(
    SpendRow,
    at=st.floats(0, 2e9),
    tenant=_TEXT,
    tier=st.none() | _TEXT,
    key_id=st.none() | _TEXT,
    mode=st.none() | _TEXT,
    microusd=st.integers(0, 10**13),
    requests=st.integers(0, 10**6),
)


@given(st.lists(_ROWS, max_size=120))
def test_what_is_told_is_what_is_read(rows: list[SpendRow]) -> None:
    told = pieces(rows, "worker", numbers())
    assert all(len(piece.encode()) <= MOST_BYTES for piece in told)
    read_back = [row for piece in told for row in read(piece).spent()]
    assert [(row.tenant, row.tier, row.key_id, row.mode, row.microusd, row.requests) for row in read_back] == [
        (row.tenant, row.tier, row.key_id, row.mode, row.microusd, row.requests) for row in rows
    ]


def test_names_that_are_far_too_long_are_left_out_and_the_money_is_not() -> None:
    (piece,) = pieces([SpendRow(at=1.0, tenant="x" * 9000, tier="free", key_id=None, mode=None, microusd=7, requests=1)], "w", numbers())
    assert [(row.tenant, row.microusd) for row in read(piece).spent()] == [("", 7)]


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "{}",
        "[1]",
        "not json",
        '["w",1,0.0,[["acme",null,null,null,-5,1]]]',
        '["w",1,0.0,[["acme",null,null,null,NaN,1]]]',
        '["w",1,0.0,[["acme",null,null,null,1e18,1]]]',
        '["w",1,0.0,[["acme",null,null,null,1,1,1,1]],"more"',
        '["w",1,0.0,' + "[" * 5000,
        "\ud800",
    ],
)
def test_what_is_no_news_is_told(payload: str) -> None:
    with pytest.raises(InvalidRequest):
        read(payload)


def test_a_piece_counts_once_and_a_gap_is_noticed() -> None:
    hearing = Hearing(most=2)

    def hear(worker: str, number: int) -> tuple[bool, bool]:
        news = SpendNews(worker, number, 0.0, [])
        return hearing.new(news), hearing.take(news) if hearing.new(news) else True

    assert hear("a", 5) == (True, True)
    assert hear("a", 5) == (False, True)
    assert hear("a", 4) == (False, True)
    assert hear("a", 6) == (True, True)
    assert hear("a", 8) == (True, False)
    assert hear("b", 1) == (True, True)
    assert hear("c", 1) == (True, True)
    assert hear("a", 8) == (True, True)
