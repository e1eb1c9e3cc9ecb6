"""What the supervisor tells a worker: one JSON line on the worker's standard input."""

from __future__ import annotations

from typing import Any

import msgspec

RETIRE = b"retire\n"
"""Written to a worker's standard input later: others have taken over. Finish what is under way, and end."""


class LocalEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the supervised chat process listens. `connections` is this worker's share of what it can hold."""

    base_url: str
    api_key: str
    connections: int


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """Who the worker is, and where the engines are that the supervisor keeps.

    `handles`: it also does what no request waits for: handlers of events, items of jobs, schedules. Background processes do; gateway
    workers only where there are none.
    """

    worker: str
    database_url: str
    handles: bool = True
    local: LocalEndpoint | None = None


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The line: the text of the settings file, what lies over it, and the runtime. The supervisor fills in the others for each worker.

    The text and not the path: a worker that is started again works by the settings that were accepted, whatever the file says by then.
    `socket` and `ready` are file descriptors: where to listen (a background process does not), and where to write a byte once requests
    can be answered. The worker takes no connection before that, for `hold_s` seconds at most. `secrets` is what the text's references to
    files and vaults stand for.
    """

    settings: str | None
    overrides: dict[str, Any]
    runtime: Runtime
    secrets: dict[str, str] = {}
    socket: int = -1
    ready: int = -1
    hold_s: float = 0.0
