"""What a replay is made of: questions with their best candidate, a world that they come from, and a policy that serves or doesn't."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import msgspec


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """The best cached question for one that is asked. `same` is the label: nobody who decides may look at it."""

    question_id: UUID
    score: float
    same: bool


class World(Protocol):
    """A stream of questions."""

    length: int

    def ask(self, number: int) -> Candidate | None:
        """The candidate for the next question; None: the cache is empty."""

    def missed(self, number: int) -> None:
        """The question was answered by the model: its answer may be cached."""

    def confirmed(self, number: int, question_id: UUID) -> None:
        """A verdict said that this question asks the same as that one, so that its wording may lead there too."""

    def died(self, question_id: UUID) -> None:
        """An entry is no more."""


class Policy(Protocol):
    """Decides, and may learn."""

    def serves(self, number: int, candidate: Candidate, world: World) -> bool:
        """Whether the candidate's answer is given."""
