"""Who the tests on an emulated AWS are; and one AWS for the bus and the edge: starting one takes as long as ten tests of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from farthing.testing.aws import Ministack


@pytest.fixture(scope="session")
def cloud() -> Iterator[Ministack]:
    with Ministack("cloudformation,cloudfront,cloudfront-keyvaluestore,dynamodb,events,iam,s3,sqs,sts") as running:
        yield running


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root of the account, by the environment, and nothing of what is in the environment of whoever runs the tests."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
