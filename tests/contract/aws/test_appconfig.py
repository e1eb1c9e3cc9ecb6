"""The config store in AppConfig, on an emulator: the contract, what others deploy there, and what goes wrong."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import client, someone
from places import Place, place

from farthing.aws.appconfig import AppConfig
from farthing.errors import Conflict, Unavailable
from farthing.testing.aws import Ministack
from farthing.testing.config import ConfigStoreContract, Shared

pytest_plugins = ["clouds"]
pytestmark = pytest.mark.usefixtures("as_root")

SHALLOW = b'{"RAG_MODE": "SHALLOW"}'
DEEP = b'{"RAG_MODE": "DEEP"}'


@pytest.fixture(scope="module")
def aws() -> Iterator[Ministack]:
    with Ministack("appconfig,appconfigdata,iam,sts") as running:
        yield running


class Time:
    """A monotonic clock; `passing`: at each look the time to poll again has passed."""

    def __init__(self, *, passing: bool = False) -> None:
        self.now = 0.0
        self._passing = passing

    def __call__(self) -> float:
        if self._passing:
            self.now += 1000
        return self.now


@pytest.fixture
def here(aws: Ministack) -> Place:
    return place(aws)


@pytest.fixture
def shared(here: Place) -> Shared:
    one, other = (AppConfig(here.settings, clock=Time(passing=True)) for _ in range(2))
    return Shared(store=one, other=other, writers=6)


class TestAppConfig(ConfigStoreContract):
    pass


async def body(store: AppConfig) -> Any:
    document = await store.read("modes")
    return None if document is None else document.body


async def test_what_an_alarm_deploys_is_read_at_the_next_poll_and_not_before(here: Place) -> None:
    time = Time()
    store = AppConfig(here.settings, clock=time)
    assert await body(store) is None
    here.deploy(SHALLOW)
    time.now = 14.9
    assert await body(store) is None, "AWS allows no poll before 15 s"
    time.now = 15.1
    assert await body(store) == {"RAG_MODE": "SHALLOW"}
    for later in (30.3, 45.5, 60.7):
        time.now = later
        assert await body(store) == {"RAG_MODE": "SHALLOW"}, "AWS answers nothing when nothing is new"
    here.deploy(DEEP)
    time.now = 76
    assert await body(store) == {"RAG_MODE": "DEEP"}


async def test_a_token_that_has_expired_is_replaced(here: Place) -> None:
    time = Time(passing=True)
    store = AppConfig(here.settings, clock=time)
    here.deploy(SHALLOW)
    before = await store.read("modes")
    store._profile("modes")._feed._token = "expired"
    assert await store.read("modes") == before
    here.deploy(DEEP)
    assert await body(store) == {"RAG_MODE": "DEEP"}


async def test_who_deployed_and_why_is_told_as_far_as_anybody_said(here: Place) -> None:
    store = AppConfig(here.settings, clock=Time(passing=True))
    number = here.deploy(SHALLOW, Description="an alarm, by hand")
    document = await store.read("modes")
    assert document is not None
    assert (document.version, document.by, document.reason) == (number, "external", "an alarm, by hand")
    await store.write("modes", {"RAG_MODE": "DEEP"}, expect=number, by="operator:ann", reason="it is over")
    assert [(one.version, one.by, one.reason) for one in await store.history("modes", 9)] == [
        (number + 1, "operator:ann", "it is over"),
        (number, "external", "an alarm, by hand"),
    ]


async def test_who_has_not_seen_what_an_alarm_did_cannot_undo_it(here: Place) -> None:
    store = AppConfig(here.settings, clock=Time())
    seen = await store.write("modes", {"n": 1}, expect=0, by="operator:ann", reason="")
    here.deploy(SHALLOW)
    with pytest.raises(Conflict, match="version 2 and not 1: external"):
        await store.write("modes", {"n": 2}, expect=seen.version, by="operator:ann", reason="")
    assert await body(store) == {"RAG_MODE": "SHALLOW"}, "after a conflict what is there is read at once"
    assert (await store.write("modes", {"n": 3}, expect=2, by="operator:ann", reason="")).version == 3


async def test_the_same_text_deployed_again_is_a_new_version(here: Place) -> None:
    store = AppConfig(here.settings, clock=Time())
    here.deploy(SHALLOW)
    assert await body(store) == {"RAG_MODE": "SHALLOW"}
    here.deploy(SHALLOW)
    with pytest.raises(Conflict, match="version 2 and not 1"):
        await store.write("modes", {}, expect=1, by="", reason="")
    seen = await store.read("modes")
    assert seen is not None
    assert seen.version == 2


async def test_an_older_text_that_is_deployed_again_counts(here: Place) -> None:
    store = AppConfig(here.settings, clock=Time(passing=True))
    first = await store.write("modes", {"n": 1}, expect=0, by="", reason="")
    await store.write("modes", {"n": 2}, expect=first.version, by="", reason="")
    here.redeploy(1)
    seen = await store.read("modes")
    assert seen is not None
    assert (seen.version, seen.body) == (3, {"n": 1})


async def test_a_deployment_that_is_rolled_back_does_not_count(here: Place) -> None:
    store = AppConfig(here.settings, clock=Time(passing=True))
    await store.write("modes", {"n": 1}, expect=0, by="", reason="")
    number = here.deploy(b'{"n": 2}', "AppConfig.Canary10Percent20Minutes")
    here.control.stop_deployment(ApplicationId=here.application, EnvironmentId=here.environment, DeploymentNumber=number)
    assert await body(store) == {"n": 1}
    assert (await store.write("modes", {"n": 3}, expect=1, by="", reason="")).version == number + 1


async def test_a_deployment_that_takes_its_time_is_waited_for_and_not_without_end(aws: Ministack) -> None:
    here = place(aws, timeout_s=1.5)
    store = AppConfig(here.settings, clock=Time(passing=True))
    number = here.deploy(b'{"n": 1}', "AppConfig.Canary10Percent20Minutes")
    with pytest.raises(Unavailable):
        await store.write("modes", {"n": 2}, expect=number, by="", reason="")
    versions = here.control.list_hosted_configuration_versions(ApplicationId=here.application, ConfigurationProfileId=here.profile)
    assert [item["VersionNumber"] for item in versions["Items"]] == [1], "nothing is left lying about"


async def test_another_profile_of_the_same_environment_is_no_conflict(here: Place) -> None:
    other = here.control.create_configuration_profile(ApplicationId=here.application, Name="routers", LocationUri="hosted")
    assert other["Id"]
    store = AppConfig(here.settings, clock=Time(passing=True))
    first = await store.write("modes", {"n": 1}, expect=0, by="", reason="")
    between = await store.write("routers", {"m": 1}, expect=0, by="", reason="")
    second = await store.write("modes", {"n": 2}, expect=first.version, by="", reason="")
    assert first.version < between.version < second.version
    assert [one.body for one in await store.history("modes", 9)] == [{"n": 2}, {"n": 1}]
    seen = await store.read("routers")
    assert seen is not None
    assert seen.body == {"m": 1}


@pytest.mark.parametrize("content", [b"DEEP", b"[1]", b"\xff", b"{" * 10_000])
async def test_what_is_no_document_is_told_and_the_next_one_is_read(here: Place, content: bytes) -> None:
    store = AppConfig(here.settings, clock=Time(passing=True))
    here.deploy(content)
    for _ in range(2):
        with pytest.raises(Unavailable, match="no document"):
            await store.read("modes")
    assert await store.history("modes", 9) == []
    here.deploy(DEEP)
    assert await body(store) == {"RAG_MODE": "DEEP"}


async def test_with_rights_to_read_only_versions_are_counted_as_they_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with Ministack("appconfig,appconfigdata,iam,sts", auth=True) as strict:
        here = place(strict)
        reader = someone(strict, "appconfig:*LatestConfiguration")
        allowed = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": %s, "Resource": "*"}]}'
        iam = client(strict, "iam")
        user = iam.list_users()["Users"][-1]["UserName"]
        iam.put_user_policy(
            UserName=user,
            PolicyName="all",
            PolicyDocument=allowed % '["appconfig:StartConfigurationSession", "appconfig:GetLatestConfiguration"]',
        )
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", reader.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", reader.secret_access_key)
        store = AppConfig(here.settings, clock=Time(passing=True))
        for number, content in enumerate([SHALLOW, DEEP, SHALLOW], 1):
            here.deploy(content)
            document = await store.read("modes")
            assert document is not None
            assert (document.version, document.by) == (number, "external")
        with pytest.raises(Unavailable, match="may not"):
            await store.write("modes", {}, expect=None, by="", reason="")


async def test_without_a_region_the_message_says_where_to_set_it(here: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    store = AppConfig(here.settings.model_copy(update={"region": None}))
    with pytest.raises(Unavailable, match=r"NoRegionError.*config\.appconfig"):
        await store.read("modes")


@pytest.mark.parametrize("missing", [{"application": "none"}, {"environment": "none"}, {"profile": "none"}])
async def test_what_is_not_there_is_told(aws: Ministack, missing: dict[str, str]) -> None:
    store = AppConfig(place(aws, **missing).settings)
    with pytest.raises(Unavailable, match=r"config\.appconfig"):
        await store.read("modes")
    with pytest.raises(Unavailable, match=f"no {next(iter(missing))} 'none'"):
        await store.write("modes", {}, expect=None, by="", reason="")


async def test_a_strategy_that_is_not_there_is_told_and_leaves_no_version(aws: Ministack) -> None:
    here = place(aws, strategy="none")
    with pytest.raises(Unavailable, match="no deployment strategy 'none'"):
        await AppConfig(here.settings).write("modes", {}, expect=None, by="", reason="")
    versions = here.control.list_hosted_configuration_versions(ApplicationId=here.application, ConfigurationProfileId=here.profile)
    assert versions["Items"] == []


@pytest.mark.parametrize("deaf", [True, False])
async def test_an_appconfig_that_is_away_or_silent_is_unavailable_within_the_deadline(here: Place, *, deaf: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1] if deaf else 9}"
        settings = here.settings.model_copy(update={"endpoint_url": url, "timeout_s": 1})
        store = AppConfig(settings)
        for call in (store.read("modes"), store.history("modes", 1), store.write("modes", {}, expect=None, by="", reason="")):
            with pytest.raises(Unavailable, match="AppConfig"):
                await call


class Filled:
    """A control plane with the quota on versions that AWS has and the emulator has not."""

    def __init__(self, control: Any, most: int) -> None:
        self._control = control
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._control, name)

    def create_hosted_configuration_version(self, **wanted: Any) -> Any:
        where = {name: wanted[name] for name in ("ApplicationId", "ConfigurationProfileId")}
        if len(self._control.list_hosted_configuration_versions(**where)["Items"]) >= self._most:
            said = {"Error": {"Code": "ServiceQuotaExceededException", "Message": "no more"}}
            raise self._control.exceptions.ServiceQuotaExceededException(said, "CreateHostedConfigurationVersion")
        return self._control.create_hosted_configuration_version(**wanted)


async def test_where_aws_holds_no_more_versions_the_oldest_go(here: Place) -> None:
    store = AppConfig(here.settings, clock=Time(passing=True))
    register = store._profile("modes")._register
    register._client = Filled(register._client, 30)
    for number in itertools.count():
        made = await store.write("modes", {"n": number}, expect=number, by="", reason="")
        assert made.version == number + 1
        if number == 44:
            break
    assert await body(store) == {"n": 44}
    assert [one.body["n"] for one in await store.history("modes", 10)] == list(range(44, 34, -1))
