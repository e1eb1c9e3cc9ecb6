"""The report adds up exactly: requests with known usage at known prices, by source, model, key and tenant, as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from inside import Row, add_up, ask, new_key, query, settled

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, completion, usage_object

_NAMES = ("requests", "attempts", "errors", "tokens_in", "tokens_out", "spent_microusd", "saved_microusd")


class Trade:
    """What was asked: two tenants, three keys, six requests of acme's."""

    def __init__(self, farthing: Installation) -> None:
        self.farthing = farthing
        self.mine, self.hers = new_key(farthing, "acme"), new_key(farthing, "acme", user="ada")
        self.theirs = new_key(farthing, "globex")
        mine, hers, theirs = (made["key"] for made in (self.mine, self.hers, self.theirs))
        answers = [
            ask(farthing, mine, "Trade?", "plain"),  # 1000 in at 1, 500 out at 2 µ$: 2000
            ask(farthing, mine, "Trade?", "plain"),  # saves 2000
            ask(farthing, hers, "Trade?", "plain", stream=True),  # saves 2000: keys of one tenant share the cache
            ask(farthing, hers, "Trade?", "dear"),  # 100 in at 10, 10 out at 30: 1300
            ask(farthing, hers, "Again?", "plain", stream=False, farthing={"cache": "off"}),  # 2000, not kept
            ask(farthing, mine, "Trade?", "missing"),  # refused: 404
            ask(farthing, theirs, "Trade?", "plain"),  # 2000: tenants share nothing
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 404, 200]
        self.costs = [answer.headers.get("x-farthing-cost-usd") for answer in answers]
        self.sources = [answer.headers.get("x-farthing-source") for answer in answers]
        settled(farthing, [answer.headers["x-request-id"] for answer in answers])


@pytest.fixture(scope="module")
def trade(books: Installation, upstream: ScriptedUpstream) -> Iterator[Trade]:
    upstream.script("plain", completion("A coin.", usage=usage_object(1000, 500)))
    upstream.script("dear", completion("A dear coin.", usage=usage_object(100, 10)))
    yield Trade(books)
    upstream.script("plain")
    upstream.script("dear")


def _told(found: Row) -> tuple[int, ...]:
    return tuple(found[name] for name in _NAMES)


def test_the_answers_say_what_they_cost(trade: Trade) -> None:
    assert trade.costs == ["0.002000", "0.000000", "0.000000", "0.001300", "0.002000", None, "0.002000"]
    assert trade.sources == ["model", "exact", "exact", "model", "model", None, "model"]


def test_totals_and_sources(trade: Trade) -> None:
    found = trade.farthing.report(tenant="acme")
    assert _told(found) == (6, 3, 1, 2100, 1010, 5300, 4000)
    assert {name: _told(row) for name, row in found["by_source"].items()} == {
        "model": (3, 3, 0, 2100, 1010, 5300, 0),
        "exact": (2, 0, 0, 0, 0, 0, 4000),
        "none": (1, 0, 1, 0, 0, 0, 0),
    }
    assert found["notional_microusd"] == 0
    assert found["notional_models"] == []


def test_by_model_key_tenant_and_source(trade: Trade) -> None:
    by = {name: trade.farthing.report(tenant="acme", by=name)["rows"] for name in ("model", "key", "source", "tenant")}
    assert {name: _told(row) for name, row in by["model"].items()} == {
        "plain": (4, 2, 0, 2000, 1000, 4000, 4000),
        "dear": (1, 1, 0, 100, 10, 1300, 0),
        "missing": (1, 0, 1, 0, 0, 0, 0),
    }
    assert {name: _told(row) for name, row in by["key"].items()} == {
        trade.mine["id"]: (3, 1, 1, 1000, 500, 2000, 2000),
        trade.hers["id"]: (3, 2, 0, 1100, 510, 3300, 2000),
    }
    assert set(by["source"]) == {"model", "exact", "none"}
    assert {name: _told(row) for name, row in by["tenant"].items()} == {"acme": (6, 3, 1, 2100, 1010, 5300, 4000)}
    for rows in by.values():
        sums = tuple(map(sum, zip(*map(_told, rows.values()), strict=True)))
        assert sums == (6, 3, 1, 2100, 1010, 5300, 4000)


def test_tenants_apart(trade: Trade) -> None:
    everyone = trade.farthing.report(by="tenant")["rows"]
    assert _told(everyone["acme"]) == (6, 3, 1, 2100, 1010, 5300, 4000)
    assert _told(everyone["globex"]) == (1, 1, 0, 1000, 500, 2000, 0)
    assert _told(trade.farthing.report(tenant="globex")) == (1, 1, 0, 1000, 500, 2000, 0)
    assert _told(trade.farthing.report(tenant="nobody")) == (0,) * 7
    add_up(trade.farthing)
    # The database itself shows one tenant's rows to whoever has set that tenant, and none to who has not.
    assert query(trade.farthing, "SELECT count(*) AS n FROM farthing.ledger", role="farthing_app") == [{"n": 0}]
    as_acme = "SELECT count(*) AS n, count(*) FILTER (WHERE tenant <> 'acme') AS others FROM farthing.ledger, "
    as_acme += "LATERAL (SELECT set_config('farthing.tenant', 'acme', true)) AS setting"
    assert query(trade.farthing, as_acme, role="farthing_app")[0]["others"] == 0


def test_the_command_prints_one_json_object_on_its_last_line(trade: Trade) -> None:
    done = trade.farthing.cli("report", "--since", "1h", "--tenant", "acme", "--by", "key", "--json")
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"requests", "spent_microusd", "saved_microusd", "by_source"} <= found.keys()
    told = trade.farthing.report(tenant="acme", by="key")
    for moving in ("since", "until"):
        del found[moving], told[moving]
    assert found == told


def test_the_command_prints_a_table_for_people(trade: Trade) -> None:
    done = trade.farthing.cli("report", "--since", "1h", "--tenant", "acme")
    lines = [line.split("│") for line in done.stdout.splitlines() if "│" in line]
    cells = {parts[1].strip(): [part.strip() for part in parts[2:-1]] for parts in lines}
    assert cells["plain"] == ["4", "0", "2,000", "1,000", "0.004000", "0.004000"]
    assert cells["(exact)"] == ["2", "0", "0", "0", "0.000000", "0.004000"]
    assert cells["total"] == ["6", "1", "2,100", "1,010", "0.005300", "0.004000"]
    assert "notional" not in done.stdout


@pytest.mark.parametrize(
    ("query_string", "param", "hint"),
    [
        ("since=yesterday", "since", "24h"),
        ("since=-1h", "since", "24h"),
        ("since=999999w", "since", "24h"),
        ("since=1h&until=2h", "since", "before until"),
        ("until=never", "until", "24h"),
        ("by=colour", "by", "model, tenant, key, source"),
        ("since=%00", "since", "24h"),
        ("tenant=%00", None, ""),
        ("sincee=1h", None, "since, until, by, tenant"),
    ],
)
def test_bad_parameters_are_refused_by_name(trade: Trade, query_string: str, param: str | None, hint: str) -> None:
    headers = {"authorization": f"Bearer {trade.farthing.key}"}
    answer = httpx.get(f"{trade.farthing.url}/admin/v1/report?{query_string}", headers=headers)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert hint in error["message"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "query_string", ["", "since=7d&by=source", "since=2026-01-01", "since=0001-01-01T00:00:00%2B23:59&until=9999-12-31"]
)
def test_good_parameters_are_taken(trade: Trade, query_string: str) -> None:
    headers = {"authorization": f"Bearer {trade.farthing.key}"}
    assert httpx.get(f"{trade.farthing.url}/admin/v1/report?{query_string}", headers=headers).status_code == 200


def test_the_report_is_for_admin_keys(trade: Trade) -> None:
    assert trade.farthing.get("/admin/v1/report", key=trade.mine["key"])[0] == 403
    assert trade.farthing.get("/admin/v1/report")[0] == 401
