"""One emulated AWS for the tests of the event bus and of the edge: starting one takes as long as ten of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from farthing.testing.aws import Ministack


@pytest.fixture(scope="session")
def cloud() -> Iterator[Ministack]:
    with Ministack("cloudformation,cloudfront,cloudfront-keyvaluestore,dynamodb,events,iam,s3,sqs,sts") as running:
        yield running
