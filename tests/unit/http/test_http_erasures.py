"""What is said of an erasure: all of it when it is done, and what is left when it is not."""

from datetime import UTC, datetime

from farthing.http.erasures import erasure
from farthing.types import Receipt, new_id


def receipt(**places: int | None) -> Receipt:
    return Receipt(id=new_id(), tenant="acme", user="ann", at=datetime(2026, 3, 1, tzinfo=UTC), by="key", places=places)


def test_what_went_where_is_said_and_what_remains() -> None:
    made = receipt(facts=2, events=0)
    status, said = erasure(made)
    assert status == 200
    assert (said["id"], said["complete"], said["deleted"]) == (made.id, True, {"facts": 2, "events": 0})
    assert "error" not in said
    assert any("Ledger" in line for line in said["remaining"])


def test_a_place_that_was_away_is_an_error_that_names_it_beside_what_was_done() -> None:
    status, said = erasure(receipt(facts=2, events=None, turns=None))
    assert status == 503
    assert (said["complete"], said["deleted"]) == (False, {"facts": 2, "events": None, "turns": None})
    assert said["error"]["type"] == "server_error"
    assert "events, turns could not be reached" in said["error"]["message"]
