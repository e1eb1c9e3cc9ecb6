"""Versions of states in the memory of this process: shared by the event bus, which makes them go up, and what reads them."""

from __future__ import annotations

from collections.abc import Sequence


class InProcessStates:
    """By tenant and state; 0 for one that never changed. None of the methods waits for anything: each is atomic."""

    def __init__(self) -> None:
        self._versions: dict[tuple[str, str], int] = {}

    def versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """The versions now."""
        return {state: self._versions.get((tenant, state), 0) for state in states}

    def bump(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """They go up by one, each once. Returns the new ones."""
        for state in set(states):
            self._versions[tenant, state] = self._versions.get((tenant, state), 0) + 1
        return self.versions(tenant, states)
