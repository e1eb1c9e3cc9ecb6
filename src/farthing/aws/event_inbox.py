"""The inbox: a queue into which a rule of EventBridge puts events of other systems, taken from there into Farthing's own bus."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from farthing.aws.calls import AwsCalls
from farthing.aws.event_inbound import inbound_event
from farthing.errors import FarthingError, InvalidRequest
from farthing.settings.events_aws import AwsEventSettings
from farthing.types import Event, utc_now

_log = logging.getLogger("farthing.aws")
_BATCH: Final = 10
_HIDDEN_S: Final = 60
_PAUSE_S: Final = 5.0

Publish = Callable[[Sequence[Event]], Awaitable[list[bool]]]


class Inbox:
    """Takes events and publishes them; a message is deleted when its event is durable here. `settings.inbox` is set.

    One that is no event stays, and SQS moves it to the inbox's dead-letter queue in the end. `taken`, `refused` and `unwanted` count.
    Raises `SettingsError` without botocore.
    """

    def __init__(self, settings: AwsEventSettings, publish: Publish, *, now: Callable[[], datetime] = utc_now) -> None:
        self._settings = settings
        self._publish = publish
        self._now = now
        self._calls = AwsCalls(settings, "events.aws.inbox", "docs/events-aws.md")
        self._url: str | None = None
        self.taken = 0
        self.refused = 0
        self.unwanted = 0

    async def run(self) -> None:
        """Until cancelled. While AWS or the bus is away, it waits."""
        failing = False
        while True:
            try:
                await self.once()
                failing = False
            except FarthingError as error:
                if not failing:
                    _log.warning("Events of EventBridge wait in the inbox: %s", error.message)
                failing = True
                await asyncio.sleep(_PAUSE_S)

    async def once(self) -> int:
        """What is there now, at most ten; waits a few seconds for something. How many events were taken. Raises `Unavailable`."""
        messages = await self._calls.run(self._receive, "receive events")
        now = self._now()
        events: list[tuple[Any, Event]] = []
        handled = []
        for message in messages:
            try:
                event = inbound_event(message["Body"], self._settings.inbound, now)
            except InvalidRequest as error:
                self._refuse(message, error)
                continue
            if event is None:
                self.unwanted += 1
                handled.append(message)
            else:
                events.append((message, event))
        handled += await self._published(events)
        if handled:
            await self._calls.run(lambda: self._delete(handled), "delete events")
        return len(handled)

    async def _published(self, events: list[tuple[Any, Event]]) -> list[Any]:
        """The messages of those that were taken. One that the bus does not take is not in the way of the others."""
        if not events:
            return []
        try:
            await self._publish([event for _, event in events])
        except InvalidRequest as error:
            if len(events) > 1:
                return [message for each in events for message in await self._published([each])]
            self._refuse(events[0][0], error)
            return []
        self.taken += len(events)
        return [message for message, _ in events]

    def _refuse(self, message: Any, error: InvalidRequest) -> None:
        self.refused += 1
        _log.warning("Message %s in %s is refused: %s", message.get("MessageId"), self._settings.inbox, error.message)

    def _receive(self) -> list[Any]:
        sqs = self._calls.client("sqs")
        if self._url is None:
            self._url = sqs.get_queue_url(QueueName=self._settings.inbox)["QueueUrl"]
        answer = sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=_BATCH,
            VisibilityTimeout=_HIDDEN_S,
            WaitTimeSeconds=max(0, min(10, int(self._settings.timeout_s / 2) - 1)),
        )
        return list(answer.get("Messages", []))

    def _delete(self, messages: list[Any]) -> None:
        entries = [{"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]} for index, message in enumerate(messages)]
        self._calls.client("sqs").delete_message_batch(QueueUrl=self._url, Entries=entries)
