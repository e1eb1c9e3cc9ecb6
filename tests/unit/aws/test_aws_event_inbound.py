"""Events of EventBridge as events of Farthing, and what is no event."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.aws.event_inbound import inbound_event
from farthing.aws.event_mirror import envelope
from farthing.errors import InvalidRequest
from farthing.settings.events_aws import AwsEventSettings, InboundSettings
from farthing.types import Event

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ROUTES = [
    InboundSettings(source="shop", detail_type="Order*", tenant="acme", user="detail.customer.id", subject="detail.order"),
    InboundSettings(source="*", tenant="rest", type="other"),
]


def told(**more: Any) -> str:
    body = {"version": "0", "id": "i1", "source": "shop", "detail-type": "Order Placed!", "account": "1234", "time": "2026-11-28T11:00:00Z"}
    return json.dumps({**body, "region": "eu-west-1", "resources": [], "detail": {"order": 7, "customer": {"id": "ann"}}, **more})


def test_the_first_route_that_fits_says_whose_it_is() -> None:
    assert inbound_event(told(), ROUTES, NOW) == Event(
        id="i1",
        source="eventbridge/1234/shop",
        type="shop.order-placed",
        tenant="acme",
        subject="7",
        user="ann",
        time=datetime(2026, 11, 28, 11, tzinfo=UTC),
        data={"order": 7, "customer": {"id": "ann"}},
        received_at=NOW,
    )
    other = inbound_event(told(source="hr"), ROUTES, NOW)
    assert other is not None
    assert (other.tenant, other.type, other.user, other.subject) == ("rest", "other", None, None)
    assert inbound_event(told(source="hr"), ROUTES[:1], NOW) is None


def test_a_cloud_event_keeps_its_names_but_not_its_tenant() -> None:
    event = Event(
        id="9",
        source="/app",
        type="login",
        tenant="evil",
        user="bob",
        subject="s",
        time=NOW,
        data=[1],
        extensions={"plan": "free"},
        received_at=NOW,
    )
    routes = [InboundSettings(source="*", tenant="acme")]
    found = inbound_event(told(detail=json.loads(envelope(event))), routes, NOW)
    assert found is not None
    assert found == Event(
        id="9",
        source="/app",
        type="login",
        tenant="acme",
        user="bob",
        subject="s",
        time=NOW,
        data=[1],
        extensions={"plan": "free"},
        received_at=NOW,
    )


def test_what_farthing_itself_has_told_does_not_come_back() -> None:
    assert inbound_event(told(source="farthing"), ROUTES, NOW) is None


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"id": 1}', told(id=""), told(id="x" * 600), "[" * 100_000])
def test_what_is_no_event_is_told(body: str) -> None:
    with pytest.raises(InvalidRequest):
        inbound_event(body, ROUTES, NOW)


@pytest.mark.parametrize("broken", [{"specversion": "1.0"}, {"specversion": "1.0", "id": 1, "source": "/", "type": "t"}])
def test_a_cloud_event_without_its_names_is_told(broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="the event's"):
        inbound_event(told(detail=broken), [InboundSettings(source="*", tenant="acme")], NOW)


def test_a_time_that_is_none_or_to_come_is_now() -> None:
    for time in ("yesterday", "2036-01-01T00:00:00Z", ""):
        found = inbound_event(told(time=time), ROUTES, NOW)
        assert found is not None
        assert found.time == NOW


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(detail=_json)
def test_any_detail_is_taken_and_the_tenant_is_ours(detail: Any) -> None:
    found = inbound_event(told(detail=detail), ROUTES, NOW)
    assert found is not None
    assert (found.tenant, found.data) == ("acme", detail)


def test_an_inbox_without_routes_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="belong together"):
        AwsEventSettings(inbox="farthing-inbox")
