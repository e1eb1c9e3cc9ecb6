"""The process that runs an operator's validator, so that a hang, a crash or a leak in it is never the gateway's.

    python -P -m farthing.routing.checks.validator_process ENTRY_POINT MEMORY_MB

It says on standard output what came of loading the function, then answers calls from standard input until that ends. Both speak in
frames: four bytes of length (big-endian), then JSON. What the function prints goes to standard error. It is killed when its parent dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import os
import resource
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import msgspec

GROUP = "farthing.validators"
HEADER = 4
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LONGEST_REASON = 200


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """The first frame. `error` is why the function could not be loaded. `parallel`: it is asynchronous, and takes several calls at once."""

    error: str | None = None
    parallel: bool = False


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to look at, and how many seconds the function has."""

    id: int
    text: str
    request: dict[str, Any]
    timeout_s: float


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call: `rejected` is why, None when the answer passes; `error` is why there is no opinion."""

    id: int
    rejected: str | None = None
    error: str | None = None


def frame(message: msgspec.Struct) -> bytes:
    """A message as it goes over the pipe."""
    data = msgspec.json.encode(message)
    return len(data).to_bytes(HEADER, "big") + data


def resolve(entry_point: str) -> Callable[[str, dict[str, Any]], Any]:
    """The function of that name: `package.module:function`, or one of the entry-point group. Raises what its module raises."""
    module, colon, path = entry_point.partition(":")
    if colon:
        found: Any = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    else:
        named = list(entry_points(group=GROUP, name=entry_point))
        if not named:
            known = ", ".join(sorted(entry_points(group=GROUP).names)) or "none"
            msg = f"no installed package registers {entry_point!r} in the entry-point group {GROUP}; known: {known}"
            raise LookupError(msg)
        found = named[0].load()
    if not callable(found):
        msg = f"{entry_point} is not a function"
        raise TypeError(msg)
    return found  # type: ignore[no-any-return] # anything that can be called


def main() -> None:
    """Serve until standard input ends."""
    entry_point, memory_mb = sys.argv[1], int(sys.argv[2])
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the parent closes our input
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20, memory_mb * 2**20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        function = resolve(entry_point)
    except BaseException as error:  # noqa: BLE001 - its module may do anything while it is imported
        out.write(frame(Loaded(error=f"{type(error).__name__}: {error}"[:500])))
        return
    parallel = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - an object with an asynchronous __call__
    out.write(frame(Loaded(parallel=parallel)))
    asyncio.run(_serve(function, out.write))


async def _serve(function: Callable[[str, dict[str, Any]], Any], write: Callable[[bytes], object]) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    under_way: set[asyncio.Task[None]] = set()
    while True:
        try:
            size = int.from_bytes(await reader.readexactly(HEADER), "big")
            call = msgspec.json.decode(await reader.readexactly(size), type=Call)
        except asyncio.IncompleteReadError:
            return
        task = asyncio.create_task(_answer(function, call, write))
        under_way.add(task)
        task.add_done_callback(under_way.discard)


async def _answer(function: Callable[[str, dict[str, Any]], Any], call: Call, write: Callable[[bytes], object]) -> None:
    try:
        async with asyncio.timeout(call.timeout_s):
            said = function(call.text, call.request)
            if inspect.isawaitable(said):
                said = await said
    except TimeoutError:
        reply = Reply(id=call.id, error="it took too long, or raised TimeoutError")
    except BaseException as error:  # noqa: BLE001 - the function may raise anything, SystemExit too
        reply = Reply(id=call.id, error=f"it raised {type(error).__name__}")
    else:
        reply = _reply(call.id, said)
    write(frame(reply))


def _reply(number: int, said: object) -> Reply:
    if said is None or said is True:
        return Reply(id=number)
    if said is False:
        return Reply(id=number, rejected="the validator says no")
    if isinstance(said, str) and said.strip():
        shown = " ".join(said.split())[:_LONGEST_REASON]
        return Reply(id=number, rejected=shown.encode("utf-8", "replace").decode())
    return Reply(
        id=number, error=f"it returned {'an empty text' if isinstance(said, str) else type(said).__name__}, not True, False, None or a text"
    )


if __name__ == "__main__":
    main()
