"""Whom the tests on an emulated AWS are."""

from __future__ import annotations

import pytest


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The root of the account, by the environment, and nothing of what is in the environment of whoever runs the tests."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
