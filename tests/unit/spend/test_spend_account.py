from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from farthing.errors import FarthingError, InvalidRequest
from farthing.spend.account import Account
from farthing.types import ANONYMOUS, Answer, Attempt, Extras, Lifeline, Operation, Request, Source


class Counter:
    """A meter that keeps outcomes."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Answer | None, FarthingError | None]] = []

    def attempt(self, request: Request, attempt: Attempt) -> tuple[int, int]:
        raise AssertionError((request, attempt))

    def outcome(self, request: Request, answer: Answer | None, error: FarthingError | None) -> None:
        assert request.recorded or answer is None
        self.outcomes.append((answer, error))


def request() -> Request:
    extras = Extras()
    return Request(
        id=UUID(int=1),
        principal=ANONYMOUS,
        operation=Operation.CHAT,
        body={},
        model="m",
        extras=extras,
        started_ns=0,
        lifeline=Lifeline(None),
    )


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (InvalidRequest("no"), 400, "invalid_request"),
        (asyncio.CancelledError(), 499, "client_disconnected"),
        (ZeroDivisionError(), 500, "internal_error"),
    ],
)
@pytest.mark.parametrize("recorded", [False, True])
async def test_a_request_that_fails_is_recorded_once(raised: BaseException, status: int, code: str, recorded: bool) -> None:  # noqa: FBT001
    meter = Counter()

    async def failing(one: Request) -> Answer:
        one.recorded = recorded
        raise raised

    with pytest.raises(type(raised)):
        await Account(meter)(request(), failing)
    errors = [error.wire() for _, error in meter.outcomes if error]
    assert [(found, body["code"]) for found, body in errors] == ([] if recorded else [(status, code)])


@pytest.mark.parametrize("recorded", [False, True])
async def test_an_answer_is_recorded_unless_an_attempt_did(recorded: bool) -> None:  # noqa: FBT001
    meter = Counter()
    answer = Answer(source=Source.EXACT, model="m")

    async def answering(one: Request) -> Answer:
        one.recorded = recorded
        return answer

    one = request()
    assert await Account(meter)(one, answering) is answer
    assert meter.outcomes == ([] if recorded else [(answer, None)])
    assert one.recorded
