"""How the parts of a decision are put together: scale, account, guards, what verdicts change."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.caching.audits import AuditSettings
from farthing.caching.calibration import Calibration
from farthing.caching.judgement import NOTHING_NEAR, Judgement, _extended, _scale
from farthing.caching.question import Asked
from farthing.caching.reading import pack, read
from farthing.caching.verdicts import of_hit
from farthing.caching.verifier import Recalibration, Verifier
from farthing.testing.words import WordEmbedder
from farthing.types import Neighbour, Question, ServedHit, new_id, utc_now

VERIFIER = Verifier.load()
NO_AUDITS = AuditSettings(budget=0, opening=0)
EMBEDDER = WordEmbedder()
SCALE = _scale(VERIFIER)


def encoded(text: str) -> Asked:
    [one] = asyncio.run(EMBEDDER.encode([text]))
    return Asked(text=text, partition=bytes(32), user_id=None, delta=0.01, encoded=one)


def neighbour(text: str, similarity: float = 0.97) -> Neighbour:
    asked = encoded(text)
    assert asked.encoded is not None
    now = utc_now()
    question = Question(
        id=new_id(),
        tenant="acme",
        partition=bytes(32),
        namespace="default",
        vector=asked.encoded.vector,
        payload=pack(read(text, asked.encoded)),
        answer_key=bytes(32),
        request_id=new_id(),
        cost_microusd=1,
        created_at=now,
        expires_at=now + timedelta(days=1),
    )
    return Neighbour(question=question, similarity=similarity)


def judgement() -> Judgement:
    return Judgement(VERIFIER, audits=NO_AUDITS)


ASKED = encoded("How do I reset my password?")
SAME = neighbour("how do I reset my password")


@pytest.mark.parametrize("bound", [0.005, 0.01, 0.02, 0.05, 0.1])
def test_before_any_verdict_the_error_bounds_are_the_verifiers(bound: float) -> None:
    cold, nobody = Calibration(), UUID(int=0)
    at = VERIFIER.threshold(bound)
    above, below = (cold.assess(_extended(SCALE, at + step), nobody).upper_wrong for step in (0.001, -0.001))
    assert above <= bound <= below
    assert above == pytest.approx(bound, rel=0.05)


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_who_scores_higher_is_not_lower_on_the_scale(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert _extended(SCALE, low) <= _extended(SCALE, high)


def test_thresholds_that_are_all_the_same_are_a_shift() -> None:
    flat = VERIFIER.recalibrated(Recalibration(base=0, slope=1, adds=(), thresholds=((0.01, 1.0),)))
    scale = _scale(flat)
    assert len(scale) == 1
    assert _extended(scale, 3.0) - _extended(scale, 1.0) == pytest.approx(2.0)


def test_nothing_near_is_nothing() -> None:
    assert judgement().decide("acme", ASKED, [], most=3) is NOTHING_NEAR
    unread = msgspec.structs.replace(ASKED, encoded=None)
    assert judgement().decide("acme", unread, [SAME], most=3) is NOTHING_NEAR


def test_the_same_words_are_accepted_and_a_guarded_pair_is_not() -> None:
    decided = judgement().decide("acme", ASKED, [SAME], most=3)
    assert decided.accepted
    assert decided.best is not None
    assert decided.best.question.id == SAME.question.id
    other = encoded("Find flights from Oslo to Rome")
    refused = judgement().decide("acme", other, [neighbour("Find flights from Rome to Oslo", 0.999)], most=3)
    assert (refused.accepted, refused.best, refused.why) == (False, None, "guard: roles are exchanged")


def test_the_best_of_the_candidates_is_taken_and_no_more_than_asked_for_are_read() -> None:
    others: Sequence[Neighbour] = [neighbour("How do I reset my entire database?", 0.55), SAME]
    assert judgement().decide("acme", ASKED, others, most=2).accepted
    decided = judgement().decide("acme", ASKED, others, most=1)
    assert not decided.accepted
    assert len(decided.considered) == 1


def test_a_correction_kills_for_this_tenant_and_this_question_only() -> None:
    judge = judgement()
    hit = ServedHit(
        request_id=new_id(),
        question_id=SAME.question.id,
        answer_key=bytes(32),
        tenant="acme",
        score=9.0,
        saved_microusd=1,
        at=utc_now(),
    )
    for _ in range(2):
        judge.learn([of_hit(hit, same=False, by="correction")])
    dead = judge.decide("acme", ASKED, [SAME], most=3)
    assert (dead.accepted, "found wrong" in dead.why) == (False, True)
    twin = Neighbour(question=msgspec.structs.replace(SAME.question, id=new_id()), similarity=0.97)
    assert judge.decide("rival", ASKED, [SAME], most=3).accepted
    assert judge.decide("acme", ASKED, [twin], most=3).considered[0].assessment.dead is False


def test_what_is_served_is_booked_and_explained() -> None:
    judge = judgement()
    decided = judge.decide("acme", ASKED, [SAME], most=3)
    assert decided.best is not None
    before = judge.explain("acme", 0.01, decided.best)
    assert judge.served("acme", ASKED, decided.best, new_id()) == 0.0
    after = judge.explain("acme", 0.01, decided.best)
    assert before.admitted
    assert after.account > before.account, "a sure answer pays in"
    assert judge.explain("rival", 0.01, decided.best).account == before.account


def test_a_delta_of_zero_accepts_nothing() -> None:
    none = msgspec.structs.replace(ASKED, delta=0.0)
    assert not judgement().decide("acme", none, [SAME], most=3).accepted
