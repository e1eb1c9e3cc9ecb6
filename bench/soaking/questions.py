"""What is asked: a seeded mix of doors, whole answers and streams, questions that are new and questions that everybody asks."""

from __future__ import annotations

import random
import time

from soaking.facts import Ask

_COMMON = 24
_COMMON_S = 20.0
"""As many questions are common, for so long; then others are. The same text is asked by all tenants."""
_DOORS = (("chat", 86), ("responses", 7), ("messages", 7))


class Questions:
    """`local_share` of the questions go to the local model, whose answers nobody can foretell."""

    def __init__(self, seed: int, tenants: list[str], *, local_share: float) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a load, not a secret
        self._tenants = tenants
        self._local_share = local_share
        self._count = 0

    def next(self) -> Ask:
        """One more."""
        rng, self._count = self._random, self._count + 1
        ask_id = f"ask-{self._count:08d}-{rng.randrange(16**6):06x}"
        door = rng.choices([name for name, _ in _DOORS], [share for _, share in _DOORS])[0]
        tenant, stream = rng.choice(self._tenants), rng.random() < 0.4
        local = rng.random() < self._local_share
        common = rng.random() < 0.3 and door == "chat"
        now = time.monotonic()
        if local:
            door, stream = "chat", False
        question = f"Common question {int(now // _COMMON_S)} {rng.randrange(_COMMON)}" if common and not local else f"Question {ask_id}"
        return Ask(id=ask_id, tenant=tenant, door=door, stream=stream, model="local" if local else "main", question=question, at=now)
