import pytest

from farthing.redis.questions import RedisQuestions
from farthing.testing.questions import Asked, QuestionIndexContract
from farthing.testing.redis import RUNS_HERE
from farthing.testing.stores import Clock

pytestmark = pytest.mark.skipif(not RUNS_HERE, reason="there are no wheels of Redis for this machine")


@pytest.fixture
def asked(index: RedisQuestions, clock: Clock) -> Asked[RedisQuestions]:
    return Asked(index=index, clock=clock)


class TestQuestions(QuestionIndexContract):
    pass
