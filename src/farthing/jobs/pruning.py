"""Deleting what is too old or too much, as a kind of job: one item for each store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from farthing.errors import NotFound
from farthing.jobs.kind import Kind
from farthing.types import Item, Json

NAME = "prune"
Prune = Callable[[], Awaitable[int]]
"""Deletes, and returns how many there were."""


def pruning(stores: Mapping[str, Prune]) -> Kind:
    """The kind; the keys of its items are names of stores."""

    async def prune(item: Item) -> Json:
        if item.key not in stores:
            raise NotFound(f"this version of Farthing has no store {item.key!r} that could be pruned")
        return {"deleted": await stores[item.key]()}

    return Kind(name=NAME, handle=prune)
