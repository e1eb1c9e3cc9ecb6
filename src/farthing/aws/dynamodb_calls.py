"""Calls to the table of facts in Amazon DynamoDB, which block: run them in a thread.

One item of each user holds what holds now (`profile`); items beside it hold what has ended, in the bundles in which it did (`history#ID`).
An item of each tenant says when it was forgotten (`erased`); items beside that name its users (`user#NAME`). An item may have 400 KB.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import msgspec

from farthing.aws.credentials import clients_of, need_boto
from farthing.errors import InvalidRequest, Unavailable
from farthing.facts import packed, unpacked
from farthing.settings import DynamoDbSettings
from farthing.types import Fact, new_id

KEPT_FOR_S: Final = 7 * 86_400
"""Erasures are remembered for so long: nothing may be stored that arrived earlier than that."""
_MOST_BUNDLES: Final = 200
"""Bundles of history of a user that are looked at, the newest."""
_MOST_BUNDLE: Final = 256 * 1024
_MOST_CHANGED: Final = 5 * 2**19
"""Bytes that may change at once: DynamoDB takes 4 MB in a transaction."""
_PROFILE, _HISTORY, _ERASED, _USER = "profile", "history#", "erased", "user#"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Fact]).decode

Item = dict[str, dict[str, Any]]


class Clash(Exception):  # never leaves the pack
    """Somebody else has changed the user's facts, or the tenant was forgotten, in between."""


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The item of a user. `seen` tells one state of it from all others; None: there is none. `erased_us`: when the user was forgotten."""

    facts: tuple[Fact, ...] = ()
    version: int = 0
    seen: str | None = None
    erased_us: int = 0
    known: bool = False


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """Facts that have ended, under the sort key of their item."""

    name: str
    facts: tuple[Fact, ...]


def client(settings: DynamoDbSettings) -> Any:
    """Of DynamoDB. Raises `SettingsError` without botocore."""
    need_boto("memory.facts.store: dynamodb")
    with translated("begin"):
        (made,) = clients_of(settings, "dynamodb", connections=settings.max_calls)
    return made


class Table:
    """The table. `until` is of the monotonic clock: nothing more is begun after it."""

    def __init__(self, settings: DynamoDbSettings) -> None:
        self._client = client(settings)
        self._name = settings.table
        self._history_s = settings.history_s

    def profile(self, tenant: str, user: str, *, steady: bool) -> Held:
        """What is held of a user. `steady`: as it is now, and not a moment ago, at twice the price."""
        with translated("read"):
            answer = self._client.get_item(TableName=self._name, Key=_key(_owner(tenant, user), _PROFILE), ConsistentRead=steady)
        return _held(tenant, user, answer.get("Item"))

    def erased_us(self, tenant: str) -> int:
        """When a tenant was forgotten, in microseconds; 0: not lately."""
        with translated("read"):
            answer = self._client.get_item(TableName=self._name, Key=_key(_owner(tenant), _ERASED), ConsistentRead=True)
        return int(answer["Item"]["at"]["N"]) if "Item" in answer else 0

    def bundles(self, tenant: str, user: str) -> list[Bundle]:
        """What has ended of a user, the newest first."""
        items = self._beside(_owner(tenant, user), _HISTORY, most=_MOST_BUNDLES)
        return [Bundle(name=item["item"]["S"], facts=tuple(_decode(item["facts"]["S"]))) for item in items]

    def write(
        self, tenant: str, user: str, before: Held, facts: Sequence[Fact], bundles: Sequence[Bundle], *, arrived_us: int, now: datetime
    ) -> int:
        """Write what holds now and what has ended, all or nothing. Returns the new version. Raises `Clash`."""
        version = max(before.version + 1, int(now.timestamp() * 1000))
        owner = _owner(tenant, user)
        item = {**_key(owner, _PROFILE), "facts": {"S": packed(facts).decode()}, "version": {"N": str(version)}, "seen": _nonce()}
        if before.erased_us:
            item["erased"] = {"N": str(before.erased_us)}
        alone = {"ConditionExpression": "attribute_not_exists(#seen)", "ExpressionAttributeNames": {"#seen": "seen"}}
        if before.seen is not None:
            alone |= {"ConditionExpression": "#seen = :seen", "ExpressionAttributeValues": {":seen": {"S": before.seen}}}
        not_erased = {
            "TableName": self._name,
            "Key": _key(_owner(tenant), _ERASED),
            "ConditionExpression": "attribute_not_exists(#at) OR #at < :arrived",
            "ExpressionAttributeNames": {"#at": "at"},
            "ExpressionAttributeValues": {":arrived": {"N": str(arrived_us)}},
        }
        puts = [{**_key(_owner(tenant), f"{_USER}{user}")}] if not before.known else []
        puts += self._pieces(owner, bundles, now)
        if sum(len(one["facts"]["S"]) for one in puts if "facts" in one) > _MOST_CHANGED:
            raise InvalidRequest("so many and so large facts cannot be learnt at once in DynamoDB: learn fewer of them at a time")
        wanted = [{"Put": {"TableName": self._name, "Item": item, **alone}}, {"ConditionCheck": not_erased}]
        with translated("write"):
            self._client.transact_write_items(TransactItems=[*wanted, *({"Put": {"TableName": self._name, "Item": one}} for one in puts)])
        return version

    def _pieces(self, owner: str, bundles: Sequence[Bundle], now: datetime) -> Iterator[Item]:
        """Items of bundles, cut to a size that DynamoDB takes."""
        ttl = {"N": str(int(now.timestamp()) + self._history_s)}
        for bundle in bundles:
            name, piece, size = bundle.name or _new_name(), list[bytes](), 0
            for one in [*map(_encode, bundle.facts), b""]:
                if piece and (not one or size + len(one) > _MOST_BUNDLE):
                    yield {**_key(owner, name), "facts": {"S": (b"[" + b",".join(piece) + b"]").decode()}, "ttl": ttl}
                    name, piece, size = _new_name(), [], 0
                piece.append(one)
                size += len(one)

    def forget(self, tenant: str, user: str, now: datetime) -> int:
        """Delete all of a user. From then on what arrived before `now` is refused. Returns how many facts went."""
        owner = _owner(tenant, user)
        at = {":at": {"N": str(microseconds(now))}, ":seen": _nonce(), ":ttl": {"N": str(int(now.timestamp()) + KEPT_FOR_S)}}
        with translated("delete"):
            before = self._client.update_item(
                TableName=self._name,
                Key=_key(owner, _PROFILE),
                UpdateExpression="SET erased = :at, #seen = :seen, #ttl = :ttl REMOVE facts, version",
                ExpressionAttributeNames={"#seen": "seen", "#ttl": "ttl"},
                ExpressionAttributeValues=at,
                ReturnValues="ALL_OLD",
            ).get("Attributes")
        gone = len(_held(tenant, user, before).facts)
        while bundles := self.bundles(tenant, user):
            gone += sum(len(one.facts) for one in bundles)
            self._delete([_key(owner, one.name) for one in bundles])
        self._delete([_key(_owner(tenant), f"{_USER}{user}")])
        return gone

    def forget_tenant(self, tenant: str, now: datetime) -> None:
        """From now on what arrived before is refused, of all users."""
        item = {**_key(_owner(tenant), _ERASED), "at": {"N": str(microseconds(now))}, "ttl": {"N": str(int(now.timestamp()) + KEPT_FOR_S)}}
        with translated("delete"):
            self._client.put_item(TableName=self._name, Item=item)

    def users(self, tenant: str, *, most: int) -> list[str]:
        """At most so many users of a tenant of whom something is held."""
        return [item["item"]["S"].removeprefix(_USER) for item in self._beside(_owner(tenant), _USER, most=most)]

    def _beside(self, owner: str, prefix: str, *, most: int) -> list[Item]:
        """Items of one owner whose names begin alike, the last one first."""
        values = {":owner": {"S": owner}, ":prefix": {"S": prefix}}
        asked: dict[str, Any] = {"TableName": self._name, "ConsistentRead": True, "ScanIndexForward": False, "Limit": most}
        found: list[Item] = []
        start: Mapping[str, Any] | None = {}
        while start is not None and len(found) < most:
            with translated("read"):
                page = self._client.query(
                    **asked,
                    **({"ExclusiveStartKey": start} if start else {}),
                    KeyConditionExpression="#owner = :owner AND begins_with(#item, :prefix)",
                    ExpressionAttributeNames={"#owner": "owner", "#item": "item"},
                    ExpressionAttributeValues=values,
                )
            found += page["Items"]
            start = page.get("LastEvaluatedKey")
        return found[:most]

    def _delete(self, keys: Sequence[Item]) -> None:
        for key in keys:
            with translated("delete"):
                self._client.delete_item(TableName=self._name, Key=key)


def microseconds(at: datetime) -> int:
    """Since 1970."""
    return int(at.timestamp() * 1_000_000)


def _owner(tenant: str, user: str | None = None) -> str:
    return _encode([tenant] if user is None else [tenant, user]).decode()


def _key(owner: str, item: str) -> Item:
    return {"owner": {"S": owner}, "item": {"S": item}}


def _nonce() -> dict[str, Any]:
    return {"S": uuid4().hex}


def _new_name() -> str:
    return f"{_HISTORY}{new_id().hex}"


def _held(tenant: str, user: str, item: Item | None) -> Held:
    if item is None:
        return Held()
    known = "facts" in item
    return Held(
        facts=unpacked(tenant, user, item["facts"]["S"]) if known else (),
        version=int(item["version"]["N"]) if known else 0,
        seen=item["seen"]["S"],
        erased_us=int(item["erased"]["N"]) if "erased" in item else 0,
        known=known,
    )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """AWS's errors as ours. What it says itself stays in `__cause__`: it names accounts and roles."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - botocore is loaded by who uses AWS only

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        raise _translation(code, what) from error
    except (BotoCoreError, OSError) as error:
        raise Unavailable(f"DynamoDB cannot be reached ({type(error).__name__}): see memory.facts.dynamodb.") from error


def _translation(code: str, what: str) -> Exception:
    if code in {"TransactionCanceledException", "ConditionalCheckFailedException", "TransactionConflictException"}:
        return Clash(code)
    if code == "ValidationException":
        return InvalidRequest("DynamoDB cannot store this: an item is too large, or has a text that it does not take")
    if code == "ResourceNotFoundException":
        return Unavailable("DynamoDB has no table of that name: see memory.facts.dynamodb, and deploy/aws/memory, which makes it.")
    if "AccessDenied" in code or code in {"UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException"}:
        return Unavailable(f"DynamoDB refuses us ({code}): deploy/aws/memory says which rights the credentials need to {what}.")
    return Unavailable(f"DynamoDB cannot {what} now ({code}).")


def in_time(until: float) -> bool:
    """Whether there is time left for another try."""
    return time.monotonic() < until
