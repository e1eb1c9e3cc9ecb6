"""A kind of job: one small coroutine function for items, each of which may be done more than once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from farthing.types import Item, Json

Handle = Callable[[Item], Awaitable[Json]]
"""Does an item and returns what came of it, when its effect is durable. Raises when it could not be done.

It is tried again, unless the error says that a retry cannot help (`FarthingError.retry` is False). It is cancelled at its deadline, when
its run is cancelled, and when its lease is lost: another worker has it then.
"""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """`name` stays: runs in the store bear it."""

    name: str
    handle: Handle
