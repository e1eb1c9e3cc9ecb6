"""What every adapter of `ports.ConfigStore` must do. Subclass the suite and give it a fixture `shared`.

class TestMyConfig(ConfigStoreContract): ...

@pytest.fixture
async def shared() -> AsyncIterator[Shared]: ...    # empty for each test
"""
# ruff: noqa: D102, PLR2004  # a test's name is its docstring, and literal expectations are its point

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from farthing.config import MOST_BYTES
from farthing.errors import Conflict, InvalidRequest
from farthing.ports import ConfigStore
from farthing.types import Json, utc_now

_SLACK = timedelta(seconds=30)


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """The store under test as two workers have it; one object twice where a store is in one process. `writers`: at once, in tests."""

    store: ConfigStore
    other: ConfigStore
    writers: int = 8


class ConfigStoreContract:
    """`ports.ConfigStore`."""

    async def test_what_was_never_written_is_not_there(self, shared: Shared) -> None:
        assert await shared.store.read("modes") is None
        assert await shared.store.history("modes", 10) == []

    async def test_what_one_worker_writes_the_other_reads(self, shared: Shared) -> None:
        body: Json = {"RAG_MODE": "SHALLOW", "deep": {"list": [1, 2.5, None, True, "ü€😀", "a\\u0000b"]}, "": ""}
        made = await shared.store.write("modes", body, expect=0, by="operator:ann", reason="spend > $50 an hour")
        assert (made.name, made.version, made.body, made.by, made.reason) == ("modes", 1, body, "operator:ann", "spend > $50 an hour")
        assert abs(made.at - utc_now()) < _SLACK
        assert await shared.other.read("modes") == made

    async def test_versions_follow_each_other_and_history_is_newest_first(self, shared: Shared) -> None:
        for number in range(1, 6):
            store = shared.store if number % 2 else shared.other
            made = await store.write("modes", {"n": number}, expect=number - 1, by=f"w{number}", reason="")
            assert made.version == number
        found = await shared.store.history("modes", 3)
        assert [(one.version, one.body, one.by) for one in found] == [(n, {"n": n}, f"w{n}") for n in (5, 4, 3)]
        assert len(await shared.other.history("modes", 100)) == 5
        assert await shared.store.history("modes", 0) == []

    @pytest.mark.parametrize("expect", [0, 1, 3, -1, 10**9])
    async def test_another_version_than_expected_is_a_conflict_that_names_the_latest(self, shared: Shared, expect: int) -> None:
        for number in range(2):
            await shared.store.write("modes", {"n": number}, expect=None, by="operator:ann", reason="why not")
        with pytest.raises(Conflict, match=r"version 2\b.*operator:ann"):
            await shared.other.write("modes", {"n": "lost"}, expect=expect, by="operator:bob", reason="")
        latest = await shared.store.read("modes")
        assert latest is not None
        assert (latest.version, latest.body) == (2, {"n": 1})
        assert [one.version for one in await shared.other.history("modes", 9)] == [2, 1]

    async def test_an_expected_version_of_what_is_not_there_is_a_conflict(self, shared: Shared) -> None:
        with pytest.raises(Conflict, match="never written"):
            await shared.store.write("modes", {}, expect=1, by="", reason="")
        assert await shared.store.read("modes") is None

    async def test_of_many_that_expect_the_same_version_one_writes(self, shared: Shared) -> None:
        async def write(number: int) -> int | None:
            store = shared.store if number % 2 else shared.other
            try:
                return (await store.write("modes", {"by": number}, expect=0, by=f"w{number}", reason="")).version
            except Conflict:
                return None

        done = await asyncio.gather(*(write(number) for number in range(shared.writers)))
        winners = [number for number, version in enumerate(done) if version is not None]
        assert [done[number] for number in winners] == [1]
        assert [one.body for one in await shared.store.history("modes", 99)] == [{"by": winners[0]}]

    async def test_nothing_is_lost_when_many_read_change_and_write_again(self, shared: Shared) -> None:
        async def add(number: int) -> None:
            store = shared.store if number % 2 else shared.other
            while True:
                seen = await store.read("modes")
                names = [] if seen is None else list(seen.body["names"])  # type: ignore[call-overload]  # written below
                try:
                    expect = 0 if seen is None else seen.version
                    await store.write("modes", {"names": [*names, number]}, expect=expect, by=f"w{number}", reason="")
                except Conflict:
                    await asyncio.sleep(0)
                else:
                    return

        await asyncio.gather(*(add(number) for number in range(shared.writers)))
        latest = await shared.other.read("modes")
        assert latest is not None
        assert sorted(latest.body["names"]) == list(range(shared.writers))  # type: ignore[call-overload]  # written above
        assert latest.version == shared.writers
        assert [one.version for one in await shared.store.history("modes", 99)] == list(range(shared.writers, 0, -1))

    async def test_whatever_the_latest_is_without_an_expected_version(self, shared: Shared) -> None:
        made = await asyncio.gather(
            *((shared.store if n % 2 else shared.other).write("modes", {"n": n}, expect=None, by="", reason="") for n in range(4))
        )
        assert sorted(one.version for one in made) == [1, 2, 3, 4]

    async def test_what_a_reader_changes_changes_nothing_for_others(self, shared: Shared) -> None:
        body: Json = {"pins": {"total": "DEEP"}}
        await shared.store.write("modes", body, expect=0, by="", reason="")
        body["pins"]["total"] = "SHALLOW"
        seen = await shared.store.read("modes")
        assert seen is not None
        assert seen.body == {"pins": {"total": "DEEP"}}
        seen.body.clear()
        again = await shared.store.read("modes")
        assert again is not None
        assert again.body == {"pins": {"total": "DEEP"}}

    @pytest.mark.parametrize(
        "body",
        [
            {"x": "y" * MOST_BYTES},
            {"x": "a\x00b"},
            {"a\x00": 1},
            {"x": "\ud800"},
            {"x": object()},
            {1.5: object()},
            [1],
            None,
        ],
        ids=["too large", "NUL", "NUL in a name", "half a character", "no JSON", "no JSON name", "a list", "nothing"],
    )
    async def test_what_no_store_can_hold_is_refused_and_changes_nothing(self, shared: Shared, body: Any) -> None:
        with pytest.raises(InvalidRequest, match="'modes'"):
            await shared.store.write("modes", body, expect=None, by="", reason="")
        assert await shared.store.read("modes") is None

    async def test_a_document_may_be_as_large_as_is_said(self, shared: Shared) -> None:
        body: Json = {"x": "y" * (MOST_BYTES - len('{"x":""}'))}
        await shared.store.write("modes", body, expect=None, by="", reason="")
        seen = await shared.other.read("modes")
        assert seen is not None
        assert seen.body == body

    @pytest.mark.parametrize("name", ["", "../modes", "Modes", "a/b", "a\x00", "x" * 64, ".hidden", "-x", "ä"])
    async def test_a_name_that_is_none_is_refused(self, shared: Shared, name: str) -> None:
        for call in (
            shared.store.read(name),
            shared.store.history(name, 1),
            shared.store.write(name, {}, expect=None, by="", reason=""),
        ):
            with pytest.raises(InvalidRequest, match="no name of a document"):
                await call

    async def test_who_and_why_are_one_line_each(self, shared: Shared) -> None:
        made = await shared.store.write("modes", {}, expect=0, by="a\nb\x00c", reason="\ud800" + "x" * 9999)
        assert made.by == "a b c"
        assert made.reason.startswith(" xxx")
        assert len(made.reason) <= 500
        assert await shared.other.read("modes") == made
