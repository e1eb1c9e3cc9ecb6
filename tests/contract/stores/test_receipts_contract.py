"""Both adapters of the receipts' store, and that none names anybody."""

import psycopg
import pytest

from farthing.inprocess.receipts import InProcessReceipts
from farthing.ports import ReceiptStore
from farthing.postgres.pool import Database
from farthing.postgres.receipts import PostgresReceipts
from farthing.testing.receipts import ReceiptStoreContract, receipt


@pytest.fixture
def clean(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.execute("TRUNCATE farthing.receipts")
    return url


@pytest.fixture(params=["inprocess", "postgres"])
def receipts(request: pytest.FixtureRequest) -> ReceiptStore:
    if request.param == "inprocess":
        return InProcessReceipts()
    request.getfixturevalue("clean")
    return PostgresReceipts(request.getfixturevalue("database"))


class TestReceipts(ReceiptStoreContract):
    pass


async def test_a_receipt_names_nobody(clean: str, database: Database) -> None:
    await PostgresReceipts(database).add(receipt(1, user="ann-of-the-canaries"))
    with psycopg.connect(clean) as connection:
        (row,) = connection.execute("SELECT t::text FROM farthing.receipts t").fetchall()
    assert "canaries" not in row[0]
    assert b"canaries".hex() not in row[0]
