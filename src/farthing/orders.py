"""What the supervisor tells a worker: one JSON line on the worker's standard input."""

from __future__ import annotations

from typing import Any

import msgspec


class LocalEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the supervised chat process listens. `connections` is this worker's share of what it can hold."""

    base_url: str
    api_key: str
    connections: int


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """Who the worker is, and where the engines are that the supervisor keeps."""

    worker: str
    database_url: str
    local: LocalEndpoint | None = None


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The line: where the settings are, what lies over them, the listening socket's file descriptor, and the runtime."""

    settings: str | None
    overrides: dict[str, Any]
    socket: int
    runtime: Runtime
