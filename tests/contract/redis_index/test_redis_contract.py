import pytest

from farthing.redis.questions import RedisQuestions
from farthing.testing.questions import Asked, QuestionIndexContract
from farthing.testing.stores import Clock


@pytest.fixture
def asked(index: RedisQuestions, clock: Clock) -> Asked[RedisQuestions]:
    return Asked(index=index, clock=clock)


class TestQuestions(QuestionIndexContract):
    pass
