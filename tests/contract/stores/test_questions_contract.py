"""Both adapters of the questions' store, and what only the database can show."""

import psycopg
import pytest

from farthing.inprocess.questions import InProcessQuestions
from farthing.ports import QuestionStore
from farthing.postgres.questions import PostgresQuestions
from farthing.testing.questions import Asked, QuestionStoreContract
from farthing.testing.stores import Clock


@pytest.fixture(params=["inprocess", "postgres"])
def asked(request: pytest.FixtureRequest) -> Asked[QuestionStore]:
    clock = Clock()
    if request.param == "postgres":
        with psycopg.connect(request.getfixturevalue("url")) as connection:
            connection.execute("TRUNCATE farthing.questions")
        return Asked(index=PostgresQuestions(request.getfixturevalue("database"), clock=clock), clock=clock)
    return Asked(index=InProcessQuestions(clock=clock), clock=clock)


class TestQuestions(QuestionStoreContract):
    pass
