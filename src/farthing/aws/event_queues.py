"""What is to be handled, in FIFO queues of SQS: one for each handler, a message group for each lane.

A message says where its event is (`event_table`), and nothing else of it. While messages of a group are hidden because somebody handles
them, SQS gives out no other ones of the group: that is the lease of a lane. Methods block: run them in a thread.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from farthing.aws.calls import AwsCalls, code_of
from farthing.aws.event_names import name_of
from farthing.errors import Unavailable
from farthing.types import Event

_BATCH: Final = 10
MOST_AT_ONCE: Final = _BATCH
"""Of a lane, in one delivery."""
_MOST_HIDDEN_S: Final = 12 * 3600 - 60
_TRIES: Final = 4
_PAUSE_S: Final = 0.1
_GONE: Final = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_MADE_WITH: Final = {
    "FifoQueue": "true",
    "DeduplicationScope": "messageGroup",
    "FifoThroughputLimit": "perMessageGroupId",
    "MessageRetentionPeriod": str(14 * 86_400),
    "VisibilityTimeout": "60",
    "SqsManagedSseEnabled": "true",
}


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What a message says: where its event is, and under which name it is counted."""

    position: int
    message: str


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is hidden from others. `receives` counts from 1. `sent` is Unix time. `place` is None where it is none of ours."""

    receipt: str
    group: str
    body: str
    receives: int
    sent: float
    place: Place | None


class Queues:
    """The queues `PREFIX-HANDLER.fifo`, with an underscore for what SQS does not take in a name."""

    def __init__(self, calls: AwsCalls, prefix: str) -> None:
        self._calls = calls
        self._prefix = prefix
        self._urls: dict[str, str] = {}
        self._making = threading.Lock()

    @property
    def _sqs(self) -> Any:
        return self._calls.client("sqs")

    def url(self, handler: str) -> str:
        """Of a handler's queue, which is made if there is none."""
        with self._making:
            if handler not in self._urls:
                self._urls[handler] = self._found_or_made(queue_name(self._prefix, handler))
            return self._urls[handler]

    def _found_or_made(self, name: str) -> str:
        try:
            return str(self._sqs.get_queue_url(QueueName=name)["QueueUrl"])
        except self._sqs.exceptions.ClientError as error:
            if code_of(error) not in _GONE:
                raise
        return str(self._sqs.create_queue(QueueName=name, Attributes=_MADE_WITH)["QueueUrl"])

    def send(self, handler: str, messages: Iterable[tuple[str, Event]], *, suffix: str = "") -> None:
        """Send (group, event), those of a group in order. The same event to the same group again within five minutes is dropped by SQS.

        SQS may take a batch in part, and what it left out would come after the rest: so a batch has one message of a group at most.
        `suffix` makes it another message. Raises `Unavailable` when a message was not taken in the end; others may have been.
        """
        url = self.url(handler)
        groups: dict[str, deque[dict[str, str]]] = {}
        for group, event in messages:
            place = Place(position=event.position, message=name_of(event) + suffix)
            groups.setdefault(group, deque()).append(
                {
                    "MessageBody": msgspec.json.encode(place).decode(),
                    "MessageGroupId": group,
                    "MessageDeduplicationId": place.message,
                }
            )
        while groups:
            some = list(groups)[:_BATCH]
            self._send_all(url, [groups[group].popleft() for group in some])
            for group in some:
                left = groups.pop(group)
                if left:
                    groups[group] = left  # behind the others

    def _send_all(self, url: str, entries: list[dict[str, str]]) -> None:
        """One batch, all of it."""
        left = [{"Id": str(index), **entry} for index, entry in enumerate(entries)]
        for turn in range(_TRIES):
            failed = {item["Id"]: item for item in self._sqs.send_message_batch(QueueUrl=url, Entries=left).get("Failed", [])}
            left = [entry for entry in left if entry["Id"] in failed]
            if not left:
                return
            if any(item.get("SenderFault") for item in failed.values()):
                break
            time.sleep(_PAUSE_S * 2**turn)
        raise Unavailable(f"SQS did not take {len(left)} messages ({next(iter(failed.values())).get('Code')}).")

    def receive(self, handler: str, most: int, lease_s: float) -> list[Taken]:
        """At most `most` messages, hidden for `lease_s` seconds. Those of a group in order."""
        answer = self._sqs.receive_message(
            QueueUrl=self.url(handler),
            MaxNumberOfMessages=min(most, _BATCH),
            VisibilityTimeout=hidden(lease_s),
            WaitTimeSeconds=0,
            MessageSystemAttributeNames=["MessageGroupId", "ApproximateReceiveCount", "SentTimestamp"],
        )
        return [_taken(message) for message in answer.get("Messages", [])]

    def hide(self, handler: str, messages: Sequence[Taken], seconds: float) -> bool:
        """Hide messages for so long from now. Whether all of them were still ours."""
        wanted = hidden(seconds)
        return self._each(
            messages,
            lambda batch: self._sqs.change_message_visibility_batch(
                QueueUrl=self.url(handler), Entries=[{**entry, "VisibilityTimeout": wanted} for entry in batch]
            ),
        )

    def delete(self, handler: str, messages: Sequence[Taken]) -> bool:
        """Delete messages. Whether all of them were still ours."""
        return self._each(messages, lambda batch: self._sqs.delete_message_batch(QueueUrl=self.url(handler), Entries=batch))

    def _each(self, messages: Sequence[Taken], call: Callable[[list[dict[str, str]]], Any]) -> bool:
        whole = True
        for start in range(0, len(messages), _BATCH):
            left = [{"Id": str(index), "ReceiptHandle": one.receipt} for index, one in enumerate(messages[start : start + _BATCH])]
            for turn in range(_TRIES):
                failed = {item["Id"]: bool(item.get("SenderFault")) for item in call(left).get("Failed", [])}
                whole = whole and not any(failed.values())
                left = [entry for entry in left if failed.get(entry["Id"]) is False]
                if not left:
                    break
                time.sleep(_PAUSE_S * 2**turn)
            whole = whole and not left
        return whole

    def counts(self, handler: str) -> tuple[int, int]:
        """How many messages wait, and how many are hidden. By SQS's own count, which may be a minute old."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible"]
        found = self._sqs.get_queue_attributes(QueueUrl=self.url(handler), AttributeNames=names)["Attributes"]
        visible, delayed, hidden_ = (int(found.get(name, 0)) for name in names)
        return visible + delayed, hidden_


def queue_name(prefix: str, handler: str) -> str:
    """Of a handler's queue. SQS takes letters, digits, hyphens and underscores."""
    return f"{prefix}-{re.sub('[^A-Za-z0-9_-]', '_', handler)}.fifo"


def hidden(seconds: float) -> int:
    """As SQS has it: whole seconds, and twelve hours in all at most."""
    return min(max(0, math.ceil(seconds)), _MOST_HIDDEN_S)


def _taken(message: Any) -> Taken:
    told = message.get("Attributes", {})
    try:
        place = msgspec.json.decode(message["Body"], type=Place)
    except (msgspec.MsgspecError, RecursionError):
        place = None
    return Taken(
        receipt=message["ReceiptHandle"],
        group=told.get("MessageGroupId", ""),
        body=message["Body"],
        receives=int(told.get("ApproximateReceiveCount", 1)),
        sent=int(told.get("SentTimestamp", 0)) / 1000,
        place=place,
    )
