from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farthing.redis.engine import Engine
from farthing.redis.questions import RedisQuestions
from farthing.testing.questions import DIMENSIONS
from farthing.testing.redis import RedisServer
from farthing.testing.stores import Clock

PATIENT_S = 30.0


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """One that a test may freeze and kill."""
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def engine(shared_redis: RedisServer) -> AsyncIterator[Engine]:
    engine = Engine(shared_redis.url, wait_s=PATIENT_S, connect_timeout_s=PATIENT_S)
    await engine.run([("FLUSHALL",)], limit_s=PATIENT_S)
    yield engine
    await engine.close()


@pytest.fixture
def clock() -> Clock:
    """The engine lets go of what has expired by its own clock, so ours begins at the present."""
    return Clock(datetime.now(UTC))


@pytest.fixture
def index(engine: Engine, clock: Clock) -> RedisQuestions:
    return RedisQuestions(engine, dimensions=DIMENSIONS, timeout_s=PATIENT_S, write_timeout_s=PATIENT_S, clock=clock)
