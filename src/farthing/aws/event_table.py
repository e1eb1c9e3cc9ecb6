"""The events themselves, in one DynamoDB table: names, texts, order, versions of states, attempts, erasures, dead letters.

| partition | sort key | what |
|---|---|---|
| `N#name` | - | an event's name: its position, and whether its handlers' queues have it (`p`: not yet) |
| `L#position/1000` | position | an event |
| `O#owner` | position | which events are of a user, so that they can be forgotten |
| `P` | - | the last position, and the first that is not pruned |
| `S` | - | the subscriptions |
| `V#tenant` | state | the version of a state |
| `F#tenant` | user or empty | when a user, or the tenant, was last forgotten |
| `T#message` | - | how often a message was delivered before, and whether it is to be delivered alone |
| `D#handler` | id | a dead letter |

Methods block: run them in a thread. Reads are consistent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from farthing.aws.calls import AwsCalls, code_of
from farthing.aws.event_names import CHUNK, chunk_key, digest, key, micros, name_of, number, read, sort_key, text, written
from farthing.errors import Unavailable
from farthing.types import DeadLetter, Event, Subscription

_MOST_ACTIONS: Final = 99
_MOST_BYTES: Final = 3_500_000
"""Of a transaction: AWS takes 100 items and 4 MB."""
_MOST_GET: Final = 100
_MOST_WRITE: Final = 25
_TRIES: Final = 8
_PAUSE_S: Final = 0.02
ALL_OR_NOTHING: Final = _MOST_ACTIONS // 3
"""Events that are surely stored in one transaction."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event: `new`, or there already; and the event as it is stored, None when its queues have it, or it is forgotten."""

    new: bool
    event: Event | None


class EventTable:
    """The table `name`. What is stored is kept for `keep_days`."""

    def __init__(self, calls: AwsCalls, name: str, keep_days: int) -> None:
        self._calls = calls
        self._name = name
        self._keep = timedelta(days=keep_days)

    @property
    def _db(self) -> Any:
        return self._calls.client("dynamodb")

    def _until(self, now: datetime) -> dict[str, str]:
        return number(int((now + self._keep).timestamp()))

    # storing

    def store(self, events: Sequence[Event], now: datetime) -> list[Stored]:
        """Store those that are new, in order, and give them positions. In one transaction as long as they fit into one."""
        mine: dict[str, Event] = {}
        for _ in range(_TRIES):
            found = self._get_many([key(f"N#{name_of(event)}") for event in events])
            known = {item["pk"]["S"][2:]: item for item in found}
            fresh = {name_of(event): event for event in reversed(events) if name_of(event) not in known}
            placed = self._placed(list(reversed(fresh.values())))
            written, whole = self._write_new(placed, now)
            mine |= {name_of(event): event for event in written}
            if whole:
                return self._outcome(events, known, mine)
            time.sleep(random.uniform(0, _PAUSE_S))  # noqa: S311 - somebody stores the same at the same time
        raise Unavailable("Events of the same names are being stored by others all the time.")

    def _outcome(self, events: Sequence[Event], known: dict[str, Any], placed: dict[str, Event]) -> list[Stored]:
        """For each event in turn; the second one of a name is not new."""
        waiting = {name: int(item["at"]["N"]) for name, item in known.items() if item["state"]["S"] == "p"}
        late = {name_of(event): event for event in self.at(waiting.values())}
        outcome = []
        for event in events:
            name = name_of(event)
            mine = placed.pop(name, None)
            outcome.append(Stored(new=mine is not None, event=mine or late.pop(name, None)))
        return outcome

    def _placed(self, events: list[Event]) -> list[Event]:
        if not events:
            return []
        answer = self._db.update_item(
            TableName=self._name,
            Key=key("P"),
            UpdateExpression="ADD last_position :n",
            ExpressionAttributeValues={":n": number(len(events))},
            ReturnValues="UPDATED_NEW",
        )
        first = int(answer["Attributes"]["last_position"]["N"]) - len(events) + 1
        return [msgspec.structs.replace(event, position=first + index) for index, event in enumerate(events)]

    def _write_new(self, events: list[Event], now: datetime) -> tuple[list[Event], bool]:
        """Those that are written, and whether that is all: else one of the next transaction is there already."""
        done = 0
        for count, actions in self._transactions(events, now):
            for turn in range(_TRIES):
                try:
                    self._db.transact_write_items(TransactItems=actions)
                    break
                except self._db.exceptions.TransactionCanceledException as error:
                    reasons = {str(reason.get("Code")) for reason in error.response.get("CancellationReasons", [])}
                    if "ConditionalCheckFailed" in reasons:
                        return events[:done], False
                    if turn == _TRIES - 1:
                        raise Unavailable(f"DynamoDB does not store events now ({', '.join(sorted(reasons))}).") from error
                    time.sleep(random.uniform(0, _PAUSE_S * 2**turn))  # noqa: S311 - as above
            done += count
        return events, True

    def _transactions(self, events: list[Event], now: datetime) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """How many events, and what is to be done for them."""
        actions: list[dict[str, Any]] = []
        count = size = 0
        for event in events:
            puts = self._puts(event, now)
            more = len(puts[1]["Put"]["Item"]["e"]["S"].encode())
            if actions and (len(actions) + len(puts) > _MOST_ACTIONS or size + more > _MOST_BYTES):
                yield count, actions
                actions, count, size = [], 0, 0
            actions += puts
            count += 1
            size += more
        if actions:
            yield count, actions

    def _puts(self, event: Event, now: datetime) -> list[dict[str, Any]]:
        name = {**key(f"N#{name_of(event)}"), "at": number(event.position), "state": text("p"), "exp": self._until(now)}
        puts = [
            {"Put": {"TableName": self._name, "Item": name, "ConditionExpression": "attribute_not_exists(pk)"}},
            {"Put": {"TableName": self._name, "Item": self._event_item(event, now)}},
        ]
        if event.user is not None:
            owned = {**key(_owner(event.tenant, event.user), sort_key(event.position)), "t": text(event.tenant), "exp": self._until(now)}
            puts.append({"Put": {"TableName": self._name, "Item": owned}})
        return puts

    def _event_item(self, event: Event, now: datetime) -> dict[str, Any]:
        where = key(chunk_key(event.position), sort_key(event.position))
        return {
            **where,
            "e": text(written(event)),
            "t": text(event.tenant),
            "r": number(micros(event.received_at)),
            "exp": self._until(now),
        }

    def restore(self, event: Event, now: datetime) -> None:
        """Store an event where it was, such as one that is to be handled again after all."""
        self._db.put_item(TableName=self._name, Item=self._event_item(event, now))

    def sent(self, events: Iterable[Event], now: datetime) -> None:
        """The queues have them."""
        items = [
            {**key(f"N#{name_of(event)}"), "at": number(event.position), "state": text("s"), "exp": self._until(now)} for event in events
        ]
        self._write([{"PutRequest": {"Item": item}} for item in items])

    # reading

    def at(self, positions: Iterable[int]) -> list[Event]:
        """The events of positions, in order. Those that were forgotten or pruned are left out."""
        found = self._get_many([key(chunk_key(position), sort_key(position)) for position in set(positions)])
        return sorted((read(item["e"]["S"]) for item in found), key=lambda event: event.position)

    def last(self) -> tuple[int, int]:
        """The last position, and the first that may be there."""
        found = self._get(key("P")) or {}
        return int(found.get("last_position", number(0))["N"]), int(found.get("first_position", number(1))["N"])

    def chunk(self, position: int, upto: int) -> list[dict[str, Any]]:
        """Items of the events from a position on, until the end of its chunk or `upto`."""
        end = min(upto, (position // CHUNK + 1) * CHUNK - 1)
        where = {":c": text(chunk_key(position)), ":a": text(sort_key(position)), ":b": text(sort_key(end))}
        return list(self._query("pk = :c AND sk BETWEEN :a AND :b", where))

    def _get(self, which: dict[str, Any]) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._db.get_item(TableName=self._name, Key=which, ConsistentRead=True).get("Item")
        return found

    def _get_many(self, keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those that there are, in no order."""
        unique = list({(each["pk"]["S"], each["sk"]["S"]): each for each in keys}.values())
        found: list[dict[str, Any]] = []
        while unique:
            batch, unique = unique[:_MOST_GET], unique[_MOST_GET:]
            answer = self._db.batch_get_item(RequestItems={self._name: {"Keys": batch, "ConsistentRead": True}})
            found += answer["Responses"].get(self._name, [])
            unique += answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
        return found

    def _query(self, condition: str, values: dict[str, Any], **more: Any) -> Iterator[dict[str, Any]]:
        pages = self._db.get_paginator("query").paginate(
            TableName=self._name, KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True, **more
        )
        for page in pages:
            yield from page["Items"]

    def _write(self, requests: list[dict[str, Any]]) -> None:
        while requests:
            batch, requests = requests[:_MOST_WRITE], requests[_MOST_WRITE:]
            answer = self._db.batch_write_item(RequestItems={self._name: batch})
            left = answer.get("UnprocessedItems", {}).get(self._name, [])
            if left:
                time.sleep(_PAUSE_S)
            requests = left + requests

    def delete(self, keys: Iterable[dict[str, Any]]) -> None:
        """Delete items by their primary keys."""
        self._write([{"DeleteRequest": {"Key": {"pk": each["pk"], "sk": each["sk"]}}} for each in keys])

    # subscriptions and states

    def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """These, and no others."""
        told = msgspec.json.encode(list(subscriptions)).decode()
        self._db.put_item(TableName=self._name, Item={**key("S"), "e": text(told)})

    def subscriptions(self) -> list[Subscription]:
        """Those of now."""
        found = self._get(key("S"))
        return [] if found is None else msgspec.json.decode(found["e"]["S"], type=list[Subscription])

    def bump(self, tenant: str, states: Iterable[str]) -> dict[str, int]:
        """Versions of states go up."""
        found = {}
        for state in dict.fromkeys(states):
            answer = self._db.update_item(
                TableName=self._name,
                Key=key(f"V#{tenant}", state),
                UpdateExpression="ADD n :one",
                ExpressionAttributeValues={":one": number(1)},
                ReturnValues="UPDATED_NEW",
            )
            found[state] = int(answer["Attributes"]["n"]["N"])
        return found

    def versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """The versions of states; 0 for one that never changed."""
        found = self._get_many([key(f"V#{tenant}", state) for state in states])
        return {**dict.fromkeys(states, 0), **{item["sk"]["S"]: int(item["n"]["N"]) for item in found}}

    # attempts

    def again(self, message: str, by: int, now: datetime, *, alone: bool = False) -> tuple[int, bool]:
        """Count a delivery of a message beside its first (or, with -1, one that was none). How many, and whether it is to be alone."""
        answer = self._db.update_item(
            TableName=self._name,
            Key=key(f"T#{message}"),
            UpdateExpression=f"SET #x = :x{', alone = :yes' if alone else ''} ADD n :by",
            ExpressionAttributeNames={"#x": "exp"},
            ExpressionAttributeValues={":by": number(by), ":x": self._until(now), **({":yes": {"BOOL": True}} if alone else {})},
            ReturnValues="ALL_NEW",
        )
        found = answer["Attributes"]
        return int(found["n"]["N"]), bool(found.get("alone", {}).get("BOOL", False))

    # dead letters

    def bury(self, letter: DeadLetter, now: datetime) -> None:
        """Store a dead letter."""
        item = {
            **key(f"D#{letter.handler}", str(letter.id)),
            "e": text(msgspec.json.encode(letter).decode()),
            "t": text(letter.event.tenant),
            **({} if letter.event.user is None else {"u": text(letter.event.user)}),
            "a": number(micros(letter.at)),
            "exp": self._until(now),
        }
        self._db.put_item(TableName=self._name, Item=item)

    def dead(self, handler: str, tenant: str | None, limit: int) -> list[DeadLetter]:
        """Dead letters of a handler, newest first."""
        only = {} if tenant is None else {"FilterExpression": "t = :t"}
        values = {":h": text(f"D#{handler}"), **({} if tenant is None else {":t": text(tenant)})}
        found: list[DeadLetter] = []
        for item in self._query("pk = :h", values, ScanIndexForward=False, **only):
            found.append(msgspec.json.decode(item["e"]["S"], type=DeadLetter))
            if len(found) >= limit:
                break
        return found

    def dead_count(self, handler: str) -> int:
        """How many there are."""
        return sum(1 for _ in self._query("pk = :h", {":h": text(f"D#{handler}")}, ProjectionExpression="pk"))

    def dead_by_id(self, ids: Sequence[str], handlers: Sequence[str]) -> list[DeadLetter]:
        """Those of some ids, whoever's they are."""
        found = self._get_many([key(f"D#{handler}", each) for each in ids for handler in handlers])
        return [msgspec.json.decode(item["e"]["S"], type=DeadLetter) for item in found]

    def exhume(self, letter: DeadLetter) -> None:
        """It is none any more."""
        self.delete([key(f"D#{letter.handler}", str(letter.id))])

    def prune_dead(self, handler: str, before: datetime) -> None:
        """Delete those that died before."""
        values = {":h": text(f"D#{handler}"), ":a": number(micros(before))}
        self.delete(self._query("pk = :h", values, FilterExpression="a < :a", ProjectionExpression="pk, sk"))

    # forgetting

    def note_erasure(self, tenant: str, user: str | None, now: datetime) -> None:
        """From now on, events that were received before are not stored any more."""
        item = {**key(f"F#{tenant}", "-" if user is None else _user(user)), "at": number(micros(now)), "exp": self._until(now)}
        self._db.put_item(TableName=self._name, Item=item)

    def erased(self, events: Sequence[Event]) -> list[Event]:
        """Those among them that an erasure covers: of their user or tenant, after they were received."""
        if not events:
            return []
        wanted = [key(f"F#{event.tenant}") for event in events]
        wanted += [key(f"F#{event.tenant}", _user(event.user)) for event in events if event.user is not None]
        at = {(item["pk"]["S"], item["sk"]["S"]): int(item["at"]["N"]) for item in self._get_many(wanted)}
        return [event for event in events if _covered(event, at)]

    def remove(self, events: Iterable[Event]) -> None:
        """Delete events, but not their names."""
        self.delete(
            each
            for event in events
            for each in (
                key(chunk_key(event.position), sort_key(event.position)),
                *([] if event.user is None else [key(_owner(event.tenant, event.user), sort_key(event.position))]),
            )
        )

    def forget_user(self, tenant: str, user: str, handlers: Sequence[str]) -> int:
        """Delete a user's events and dead letters. How many events there were."""
        owned = list(self._query("pk = :o", {":o": text(_owner(tenant, user))}))
        events = [key(chunk_key(int(item["sk"]["S"])), item["sk"]["S"]) for item in owned]
        there = len(self._get_many(events))
        self.delete([*events, *owned])
        values = {":t": text(tenant), ":u": text(user)}
        for handler in handlers:
            self.delete(self._query("pk = :h", {":h": text(f"D#{handler}"), **values}, FilterExpression="t = :t AND u = :u"))
        return there

    def forget_tenant(self, tenant: str) -> int:
        """Delete all of a tenant: this reads the whole table. How many events there were."""
        pages = self._db.get_paginator("scan").paginate(
            TableName=self._name,
            FilterExpression="t = :t",
            ExpressionAttributeValues={":t": text(tenant)},
            ProjectionExpression="pk, sk",
            ConsistentRead=True,
        )
        count = 0
        for page in pages:
            self.delete(page["Items"])
            count += sum(item["pk"]["S"].startswith("L#") for item in page["Items"])
        return count

    def begin_at(self, position: int) -> None:
        """What is before a position is pruned."""
        try:
            self._db.update_item(
                TableName=self._name,
                Key=key("P"),
                UpdateExpression="SET first_position = :p",
                ConditionExpression="attribute_not_exists(first_position) OR first_position < :p",
                ExpressionAttributeValues={":p": number(position)},
            )
        except self._db.exceptions.ClientError as error:
            if code_of(error) != "ConditionalCheckFailedException":
                raise


def _owner(tenant: str, user: str) -> str:
    return f"O#{digest(tenant, user)}"


def _user(user: str) -> str:
    return f"u{digest(user)}"


def _covered(event: Event, at: dict[tuple[str, str], int]) -> bool:
    received = micros(event.received_at)
    whole = at.get((f"F#{event.tenant}", "-"), -1)
    own = -1 if event.user is None else at.get((f"F#{event.tenant}", _user(event.user)), -1)
    return max(whole, own) >= received
