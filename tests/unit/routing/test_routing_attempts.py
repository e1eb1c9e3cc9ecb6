"""Whatever models, checks and clients do: one final entry, every call paid for once, nothing rejected goes out unmarked."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from dispatch_house import AWAY, BREAK, HANG, REFUSES, House, Part, WordCheck
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import BudgetExceeded, FarthingError
from farthing.routing.checks.check import ANNOTATE, HOLD_ALL
from farthing.routing.choice import Choice
from farthing.routing.gate import Gate
from farthing.routing.hedging import Allowance, Hedge
from farthing.testing.purse import OpenPurse, OpenReservation
from farthing.types import Price, Request

NAMES = ("cheap", "middle", "strong")
PIECES = st.sampled_from(["good ", "bad ", "worse ", "a longer piece of text ", BREAK, HANG])
PARTS = st.one_of(
    st.sampled_from([AWAY, REFUSES]),
    st.builds(Part, pieces=st.lists(PIECES, min_size=1, max_size=6).map(tuple), usage=st.booleans()),
)
CHECKS = st.builds(WordCheck, st.sampled_from(["bad", "worse"]), st.sampled_from([HOLD_ALL, 2.0, 5.0, ANNOTATE]))


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What happens. `steps`: how many turns of the event loop the client waits before it leaves."""

    models: list[list[Part]]
    fallback: bool
    checks: list[WordCheck]
    streams: bool
    steps: int
    hedged: bool
    broke: set[str]
    small: bool


class Unhurried(OpenPurse):
    """Lets others run before it decides."""

    async def reserve(self, request: Request, upstream_model: str, price: Price) -> OpenReservation:
        await asyncio.sleep(0)
        return await super().reserve(request, upstream_model, price)


SCENES = st.builds(
    Scene,
    models=st.lists(st.lists(PARTS, min_size=1, max_size=2), min_size=1, max_size=3),
    fallback=st.booleans(),
    checks=st.lists(CHECKS, max_size=3),
    streams=st.booleans(),
    steps=st.one_of(st.integers(1, 60), st.just(400)),
    hedged=st.booleans(),
    broke=st.sets(st.sampled_from(NAMES), max_size=1),
    small=st.booleans(),
)


@settings(max_examples=600, deadline=None)
@given(SCENES)
def test_every_request_is_settled_once_and_nothing_is_left(scene: Scene) -> None:
    asyncio.run(_play(scene))


async def _play(scene: Scene) -> None:
    house = House(
        gate=Gate(max_held_bytes=600 if scene.small else 2**20, timeout_s=5.0),
        purse=Unhurried({name: BudgetExceeded("spent") for name in scene.broke}),
    )
    names = NAMES[: len(scene.models)]
    for name, parts in zip(names, scene.models, strict=True):
        hedge = Hedge(after_s=0.0, allowance=Allowance(1.0), same=True) if scene.hedged else None
        fallbacks = (names[-1],) if scene.fallback and name != names[-1] else ()
        house.model(name, *([part] for part in parts), fallbacks=fallbacks, hedge=hedge)
    choice = Choice(models=names, baseline=names[-1], checks=tuple(scene.checks))
    seen: list[str] = []
    marks: list[str | None] = []
    task = asyncio.ensure_future(_client(house, choice, seen, marks, streams=scene.streams))
    for _ in range(scene.steps):
        if task.done():
            break
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError, FarthingError):
        await task
    house.settled()
    _nothing_rejected_was_seen("".join(seen), marks, scene)


async def _client(house: House, choice: Choice, seen: list[str], marks: list[str | None], *, streams: bool) -> None:
    answer = await house.ask(choice, streams=streams)
    marks.append(answer.checks)
    if answer.stream is None:
        assert answer.body is not None
        seen.append(msgspec.json.decode(answer.body)["choices"][0]["message"]["content"])
        return
    try:
        async for chunk in answer.stream:
            seen.extend(choice["delta"].get("content") or "" for choice in chunk["choices"])
        marks.append(answer.checks)
    finally:
        await answer.stream.aclose()


def _nothing_rejected_was_seen(seen: str, marks: list[str | None], scene: Scene) -> None:
    """`marks` are what the client was told before the answer and after it."""
    rejecting = [check for check in scene.checks if check.hold == HOLD_ALL or not scene.streams]
    if any(check._word in seen for check in rejecting):
        assert marks[0] is not None, "what was held to its end is marked from the beginning"
        assert marks[0].startswith(("failed:", "unchecked"))
    if "passed" in marks:
        assert not any(check._word in seen for check in scene.checks)
    if scene.checks and len(marks) == 2:
        assert marks[1] is not None
