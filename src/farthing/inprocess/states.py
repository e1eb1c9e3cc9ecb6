"""Versions of states in a dictionary."""

from __future__ import annotations

import json
from collections.abc import Sequence

from farthing.inprocess.stores import InProcessChanges


class InProcessStates:
    """How often each state of a tenant has changed. Each change is told on the channel `states`."""

    def __init__(self, changes: InProcessChanges) -> None:
        self._changes = changes
        self._versions: dict[tuple[str, str], int] = {}

    def versions(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """The versions now; 0 for a state that never changed."""
        return {state: self._versions.get((tenant, state), 0) for state in states}

    def bump(self, tenant: str, states: Sequence[str]) -> dict[str, int]:
        """Let the versions go up by one. Returns the new ones."""
        for state in set(states):
            self._versions[tenant, state] = self._versions.get((tenant, state), 0) + 1
        changed = self.versions(tenant, sorted(set(states)))
        if changed:
            self._changes.publish("states", json.dumps({"tenant": tenant, "versions": changed}))
        return changed
