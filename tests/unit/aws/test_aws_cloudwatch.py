"""Numbers for CloudWatch as lines of its embedded format; and that nothing which goes wrong there is anybody's trouble."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from farthing.aws.cloudwatch import CloudWatch, embedded
from farthing.errors import Unavailable
from farthing.settings import CloudWatchSettings


class Spend:
    """Numbers that may be away."""

    def __init__(self, **numbers: float) -> None:
        self.numbers: dict[str, float] = numbers
        self.away = False

    async def __call__(self) -> dict[str, float]:
        if self.away:
            raise Unavailable("The database cannot serve this now.")
        return self.numbers


def cloudwatch(spend: Any, **settings: Any) -> CloudWatch:
    return CloudWatch(CloudWatchSettings.model_validate({"mode": "emf", **settings}), spend, clock=lambda: 1_764_000_000.5)


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_line_is_of_the_embedded_metric_format() -> None:
    assert json.loads(embedded("Farthing/eu", {"SpendUsdPerHour": 51.25, "RequestsPerHour": 7.0}, 1_764_000_000.5)) == {
        "_aws": {
            "Timestamp": 1_764_000_000_500,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Farthing/eu",
                    "Dimensions": [[]],
                    "Metrics": [{"Name": "SpendUsdPerHour", "Unit": "None"}, {"Name": "RequestsPerHour", "Unit": "None"}],
                }
            ],
        },
        "SpendUsdPerHour": 51.25,
        "RequestsPerHour": 7.0,
    }


async def test_lines_are_appended_to_the_file(tmp_path: Path) -> None:
    spend = Spend(SpendUsdPerHour=1.0)
    one, two = (cloudwatch(spend, path=tmp_path / "emf") for _ in range(2))
    await one.publish()
    spend.numbers = {"SpendUsdPerHour": 2.0}
    await two.publish()
    assert [json.loads(line)["SpendUsdPerHour"] for line in (tmp_path / "emf").read_text().splitlines()] == [1.0, 2.0]
    assert (one.published, one.failed) == (1, 0)


async def test_lines_go_to_standard_output_without_a_file(capfd: pytest.CaptureFixture[str]) -> None:
    await cloudwatch(Spend(SpendUsdPerHour=3.0)).publish()
    assert json.loads(capfd.readouterr().out)["SpendUsdPerHour"] == 3.0


async def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    publishing = cloudwatch(Spend(SpendUsdPerHour=1.0), path=tmp_path / "emf", max_bytes=1000)
    for _ in range(50):
        await publishing.publish()
    sizes = _sizes(tmp_path)
    assert set(sizes) <= {"emf", "emf.1"}
    assert max(sizes.values()) < 1500


async def test_nothing_is_written_where_nothing_is_known(tmp_path: Path) -> None:
    await cloudwatch(Spend(), path=tmp_path / "emf").publish()
    assert _sizes(tmp_path) == {}


async def test_what_fails_is_counted_and_told_once_and_again_when_it_is_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spend = Spend(SpendUsdPerHour=1.0)
    publishing = cloudwatch(spend, path=tmp_path / "emf")
    spend.away = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await publishing.publish()
        spend.away = False
        await publishing.publish()
        await publishing.publish()
    assert (publishing.published, publishing.failed) == (2, 3)
    assert [entry.getMessage().partition(":")[0] for entry in caplog.records] == [
        "CloudWatch is not told what is spent",
        "CloudWatch is told again what is spent",
    ]


async def test_numbers_that_never_come_are_not_waited_for(tmp_path: Path) -> None:
    async def never() -> dict[str, float]:
        await asyncio.Event().wait()
        return {}

    publishing = cloudwatch(never, path=tmp_path / "emf", timeout_s=0.05)
    await publishing.publish()
    assert publishing.failed == 1


async def test_a_file_that_cannot_be_written_fails_nothing(tmp_path: Path) -> None:
    publishing = cloudwatch(Spend(SpendUsdPerHour=1.0), path=tmp_path / "none" / "emf")
    await publishing.publish()
    assert publishing.failed == 1


def test_a_file_without_lines_for_it_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"cloudwatch\.path needs cloudwatch\.mode: emf"):
        CloudWatchSettings.model_validate({"mode": "put", "path": "emf"})
