"""The admin doors to trained routers."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette

from farthing.errors import InvalidRequest, NotFound
from farthing.http.admin_routers import RouterDoors
from farthing.inprocess.routers import InProcessOutcomes, InProcessRouters
from farthing.inprocess.stores import InProcessChanges
from farthing.settings import ServerSettings
from farthing.testing.routers import asked_id, outcome
from farthing.testing.stores import Clock
from farthing.types import Json, OutcomeBy

_GOOD = base64.b64encode(b"good").decode()


class House:
    """The doors on stores in this process. An artefact is good when it says so."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.routers = InProcessRouters(InProcessChanges(), clock=self.clock)
        self.outcomes = InProcessOutcomes(clock=self.clock)
        self.heard: list[tuple[str, UUID, float, OutcomeBy]] = []
        doors = RouterDoors(
            self.routers, self.outcomes, {"auto": ("weak", "strong"), "a/b": ("weak",)}, self._check, self._hear, ServerSettings()
        )
        transport = httpx.ASGITransport(Starlette(routes=doors.routes()))
        self.client = httpx.AsyncClient(transport=transport, base_url="http://farthing")

    @staticmethod
    def _check(router: str, artefact: bytes) -> Json:
        if artefact != b"good":
            raise InvalidRequest(f"no router for {router}", param="artefact")
        return {"models": ["weak", "strong"]}

    async def _hear(self, tenant: str, request_id: UUID, score: float, by: OutcomeBy) -> Json:
        if tenant != "acme":
            raise NotFound("no such request")
        self.heard.append((tenant, request_id, score, by))
        return {"object": "farthing.outcome"}

    async def get(self, path: str = "", status: int = 200) -> Any:
        return self._said(await self.client.get(f"/admin/v1/routers{path}"), status)

    async def post(self, path: str, body: object, status: int = 200) -> Any:
        return self._said(await self.client.post(f"/admin/v1/routers{path}", json=body), status)

    @staticmethod
    def _said(answer: httpx.Response, status: int) -> Any:
        assert answer.status_code == status, answer.text
        return answer.json() if status < 400 else answer.json()["error"]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    async with house.client:
        yield house


@pytest.mark.parametrize("name", ["auto", "a/b"])
async def test_a_version_is_added_promoted_and_taken_back(house: House, name: str) -> None:
    for number in (1, 2):
        added = await house.post(f"/{name}/versions", {"artefact": _GOOD, "metrics": {"apgr": 0.7}}, 201)
        assert (added["router"], added["version"], added["promoted_at"]) == (name, number, None)
        assert added["metrics"] == {"apgr": 0.7, "models": ["weak", "strong"]}
    await house.get(f"/{name}/promoted", 404)
    for wanted, now, previous in ((1, 1, [None]), (2, 2, [1]), ("previous", 1, [None]), ("previous", None, []), (2, 2, [None])):
        done = await house.post(f"/{name}/promote", {"version": wanted})
        assert (done["promoted"], done["previous"]) == (now, previous)
    found = await house.get(f"/{name}/promoted")
    assert (found["version"], found["artefact"]) == (2, _GOOD)
    listed = {one["router"]: one for one in (await house.get())["data"]}
    assert set(listed) == {"auto", "a/b"}
    assert [one["version"] for one in listed[name]["versions"]] == [2, 1]
    assert [one["version"] for one in listed[name]["promotions"]] == [2, None, 1, 2, 1]
    assert "artefact" not in listed[name]["versions"][0]


async def test_versions_of_a_router_that_left_the_settings_are_listed_and_can_be_turned_off(house: House) -> None:
    await house.routers.add("old", b"good", {}, "ann")
    await house.routers.promote("old", 1, "ann")
    assert [(one["router"], one["models"]) for one in (await house.get())["data"]] == [
        ("auto", ["weak", "strong"]),
        ("a/b", ["weak"]),
        ("old", None),
    ]
    assert (await house.post("/old/promote", {"version": None}))["promoted"] is None


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"artefact": base64.b64encode(b"bad").decode()}, 400, "no router for auto"),
        ({"artefact": "not base64!"}, 400, "base64"),
        ({}, 400, "artefact"),
        ({"artefact": _GOOD, "metrics": []}, 400, "metrics"),
        ({"artefact": _GOOD, "metrics": {"x": "y" * 70_000}}, 400, "65536 bytes"),
        ({"artefact": _GOOD, "metric": {}}, 400, "metric"),
    ],
)
async def test_what_is_no_version_is_refused(house: House, body: Json, status: int, said: str) -> None:
    assert said in (await house.post("/auto/versions", body, status))["message"]
    assert await house.routers.versions() == []


async def test_a_body_that_is_too_large_is_refused(house: House) -> None:
    await house.post("/auto/versions", {"artefact": "A" * (23 * 2**20)}, 413)


async def test_a_router_that_cannot_learn_gets_no_version(house: House) -> None:
    assert "auto, a/b" in (await house.post("/typo/versions", {"artefact": _GOOD}, 404))["message"]


@pytest.mark.parametrize("wanted", [0, -1, 2**40, "first", 1.5, [1], True])
async def test_what_is_no_version_number_cannot_be_promoted(house: House, wanted: object) -> None:
    await house.post("/auto/versions", {"artefact": _GOOD}, 201)
    await house.post("/auto/promote", {"version": wanted}, 400)
    await house.post("/auto/promote", {}, 400)
    assert await house.routers.promotions("auto", 10) == []


async def test_there_is_nothing_to_go_back_to_before_a_promotion(house: House) -> None:
    await house.post("/auto/versions", {"artefact": _GOOD}, 201)
    assert "nothing to go back to" in (await house.post("/auto/promote", {"version": "previous"}, 404))["message"]
    await house.post("/auto/promote", {"version": 7}, 404)


async def test_outcomes_are_paged(house: House) -> None:
    made = [outcome(n, house.clock, model=model, user_id="ann") for n in range(5) for model in ("a:b", "weak")]
    await house.outcomes.add([*made, outcome(9, house.clock, router="other"), outcome(8, house.clock, tenant="rival")])
    seen: list[Any] = []
    following = ""
    while True:
        page = await house.get(f"/auto/outcomes?tenant=acme&limit=3{following}")
        seen += page["data"]
        if not page["has_more"]:
            break
        following = f"&before={page['next']}"
    assert page["next"] is None
    assert [(one["request_id"], one["model"]) for one in seen] == [(str(one.request_id), one.model) for one in made[::-1]]
    assert seen[0]["vector"] == base64.b64encode(made[0].vector).decode()
    assert (seen[0]["user"], seen[0]["tenant"], seen[0]["features"]) == ("ann", "acme", [0.5, -1.0])
    assert len((await house.get("/auto/outcomes"))["data"]) == 11


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "before=x", "before=%00", "before=1:weak", "tenant=%00", "user=ann"])
async def test_a_page_that_cannot_be_is_refused(house: House, query: str) -> None:
    await house.get(f"/auto/outcomes?{query}", 400)


async def test_a_persons_word_is_passed_on_and_nonsense_is_not(house: House) -> None:
    said = {"tenant": "acme", "request_id": str(asked_id(1)), "score": 0.5}
    await house.post("/verdicts", said)
    await house.post("/verdicts", {**said, "by": "correction", "score": 1})
    assert house.heard == [("acme", asked_id(1), 0.5, "thumb"), ("acme", asked_id(1), 1.0, "correction")]
    await house.post("/verdicts", {**said, "tenant": "rival"}, 404)
    for wrong in ({"score": 1.5}, {"score": -1}, {"score": "1"}, {"by": "judge"}, {"request_id": "x"}, {"tenant": ""}, {"who": 1}):
        await house.post("/verdicts", {**said, **wrong}, 400)
    assert len(house.heard) == 2
