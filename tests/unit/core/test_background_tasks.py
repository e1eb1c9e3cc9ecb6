from __future__ import annotations

import asyncio
import logging

import pytest

from farthing.background import Background


async def test_a_task_that_fails_or_ends_is_started_again_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0
    again = asyncio.Event()

    async def shaky() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("stumbled")
        again.set()
        await asyncio.Event().wait()

    background = Background(pause_s=0.001)
    with caplog.at_level(logging.ERROR, logger="farthing"):
        background.start("shaky", shaky)
        async with asyncio.timeout(5):
            await again.wait()
    await background.stop()
    assert runs == 2
    assert "'shaky'" in caplog.text
    assert "stumbled" in caplog.text


async def test_stop_cancels_all_and_waits_for_them_to_clean_up() -> None:
    cleaned: list[str] = []
    started = asyncio.Barrier(3)

    async def work(name: str) -> None:
        try:
            await started.wait()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(name)

    background = Background()
    background.start("a", lambda: work("a"))
    background.start("b", lambda: work("b"))
    await started.wait()
    await background.stop()
    assert sorted(cleaned) == ["a", "b"]
    await background.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
