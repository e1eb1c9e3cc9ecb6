"""Recall, put together: the stage, the conversations behind it, their background work. Part of the composition root."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from farthing.background import Background
from farthing.cipher import Cipher
from farthing.memory.conversations import Conversations
from farthing.memory.keeping import Keeper
from farthing.memory.recall import Recall
from farthing.memory.vectors import Vectors
from farthing.ports import Embedder, FactStore, TurnStore
from farthing.settings.memory_recall import RecallSettings
from farthing.telemetry import instruments as names
from farthing.telemetry.metrics import Metrics
from farthing.types import Event

_EMBED_TIMEOUT_S = 0.25
"""How long a question waits for its embedding; after that words alone decide."""


class Memory:
    """`stage` is what requests pass. `tell` takes events for the bus; None: there is no bus."""

    def __init__(
        self,
        settings: RecallSettings,
        facts: FactStore | None,
        turns: TurnStore,
        embedder: Embedder | None,
        cipher: Cipher,
        tell: Callable[[Event], None] | None,
    ) -> None:
        self._vectors = Vectors(embedder, most=settings.max_vectors, timeout_s=_EMBED_TIMEOUT_S)
        self.conversations = Conversations(turns, cipher, self._vectors, settings)
        keeper = Keeper(self.conversations, tell, max_turn_bytes=settings.max_turn_bytes)
        self.stage = Recall(settings, facts, self.conversations, self._vectors, keeper)

    def start(self, background: Background) -> None:
        """Begin the background work."""
        background.start("turns", self.conversations.run)

    async def drain(self) -> None:
        """Write all that waits, at once. Raises the store's errors."""
        await self.conversations.drain()

    async def aclose(self) -> None:
        """End what nobody waits for."""
        await self._vectors.aclose()

    def register(self, metrics: Metrics) -> None:
        """Show how it does."""
        stage, conversations = self.stage, self.conversations
        asked = "Requests that asked memory, by what came of it."
        for came in stage.came:
            metrics.counter(names.RECALLED, asked, partial(stage.came.__getitem__, came), attributes={names.RECALL: came})
        metrics.gauge(
            names.TURNS_PENDING, "Turns of conversations kept here that the store does not have yet.", lambda: conversations.pending
        )
        metrics.counter(names.TURNS_DROPPED, "Turns of conversations kept here that were lost.", lambda: conversations.dropped)
