"""A handler: one small coroutine function for events of some types, at least once, idempotent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from farthing.types import Event, Subscription

Handle = Callable[[Sequence[Event]], Awaitable[None]]
"""Takes events of one lane, in order. Returns when their effect is durable. Raises when they must be delivered again."""


class Handler(msgspec.Struct, frozen=True, kw_only=True):
    """`subscription.handler` is its name, which stays: what is under way for it bears it."""

    subscription: Subscription
    handle: Handle
