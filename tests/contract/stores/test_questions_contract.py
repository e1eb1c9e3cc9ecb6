"""Both adapters of the questions' store, and what only the database can show."""

import pytest

from farthing.inprocess.questions import InProcessQuestions
from farthing.ports import QuestionStore
from farthing.testing.questions import Asked, QuestionStoreContract
from farthing.testing.stores import Clock


@pytest.fixture(params=["inprocess"])
def asked(request: pytest.FixtureRequest) -> Asked[QuestionStore]:
    clock = Clock()
    return Asked(index=InProcessQuestions(clock=clock), clock=clock)


class TestQuestions(QuestionStoreContract):
    pass
