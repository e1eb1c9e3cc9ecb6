"""Puts a scripted reply on the wire, part by part."""

from __future__ import annotations

import asyncio

from farthing.testing.http1 import Wire
from farthing.testing.replies import RESET, STALL, Cut, Repeat, Reply


async def send_reply(wire: Wire, reply: Reply, *, keep_alive: bool) -> bool:
    """Send a reply; True when the connection can carry another request."""
    if reply.delay_s:
        await asyncio.sleep(reply.delay_s)
    headers = reply.all_headers()
    if reply.parts is None:
        payload = reply.payload()
        await wire.send(_head(reply.status, {"content-length": str(len(payload)), **headers}, keep_alive=keep_alive) + payload)
        return keep_alive
    chunked = not reply.raw and "content-length" not in headers
    if not reply.raw:
        framing = {"transfer-encoding": "chunked"} if chunked else {}
        await wire.send(_head(reply.status, {**headers, **framing}, keep_alive=keep_alive))
    for part in reply.parts:
        if isinstance(part, Cut):
            return await _break_off(wire, part)
        if isinstance(part, Repeat):
            await _repeat(wire, part, chunked=chunked)
        elif isinstance(part, bytes):
            await wire.send(_framed(part) if chunked else part)
        elif part:
            await asyncio.sleep(part)
    if chunked:
        await wire.send(b"0\r\n\r\n")
    return keep_alive


async def _break_off(wire: Wire, cut: Cut) -> bool:
    if cut is STALL:
        await wire.gone.wait()
        raise ConnectionResetError("the client gave up on a stalled answer")
    if cut is RESET:
        wire.reset()
    return False


async def _repeat(wire: Wire, part: Repeat, *, chunked: bool) -> None:
    data = _framed(part.data) if chunked else part.data
    sent = 0
    while part.times is None or sent < part.times:
        await wire.send(data)
        await asyncio.sleep(0)  # drain() does not yield while the peer keeps up
        sent += 1


def _framed(data: bytes) -> bytes:
    """An HTTP chunk; nothing for nothing, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _head(status: int, headers: dict[str, str], *, keep_alive: bool) -> bytes:
    """Status line and headers. Names and values go out as given, so that a test can send odd ones."""
    given = headers if keep_alive or "connection" in headers else {**headers, "connection": "close"}
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
