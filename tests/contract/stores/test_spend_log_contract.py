"""What was spent lately, from both ledgers."""

import psycopg
import pytest

from farthing.inprocess.spend_log import InProcessSpendLog
from farthing.inprocess.stores import InProcessChanges, InProcessLedger
from farthing.postgres.changes import PostgresChanges
from farthing.postgres.ledger import PostgresLedger
from farthing.postgres.pool import Database
from farthing.postgres.spend_log import PostgresSpendLog
from farthing.testing.spend import SpendLogContract, Told
from farthing.testing.stores import ledger_entry

MOST = 20


@pytest.fixture(params=["inprocess", "postgres"])
def told(request: pytest.FixtureRequest) -> Told:
    if request.param == "inprocess":
        news, ledger = InProcessChanges(), InProcessLedger()
        return Told(log=InProcessSpendLog(ledger, news, most=MOST), ledger=ledger, changes=news, most=MOST)
    database: Database = request.getfixturevalue("database")
    return Told(
        log=PostgresSpendLog(database, most=MOST),
        ledger=PostgresLedger(database),
        changes=PostgresChanges(request.getfixturevalue("url")),
        most=MOST,
    )


class TestSpendLog(SpendLogContract):
    pass


def test_a_window_is_read_by_the_primary_key(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT count(*) FROM farthing.ledger WHERE id >= %s AND key_id IS NOT NULL", (ledger_entry().id,)
        ).fetchall()
    assert any("ledger_pkey" in line for (line,) in plan), plan
