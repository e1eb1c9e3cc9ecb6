"""Out of a file that a crash may have damaged: the entries that are whole, and the rest."""

from __future__ import annotations

import os

import msgspec

from farthing.types import LedgerEntry

_decode = msgspec.json.Decoder(LedgerEntry).decode
_BEGINNING = b'{"id":"'
"""Of each entry as the journal writes it."""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """Whole lines in order, pieces that are none, and the offset at which to go on."""

    lines: list[bytes]
    damaged: list[bytes]
    end: int


def read(fd: int, start: int, most: int, most_bytes: int = 2**20) -> Read:
    """At most `most` lines from `start`. At the end of the file `end` equals `start`.

    A killed writer leaves at most a torn last line. A power cut may leave the length of a file and not its contents: runs of NULs, in
    which whole lines are still whole. A piece without a line break is longer than any entry once it fills `most_bytes`.
    """
    data = os.pread(fd, most_bytes, start)
    cut = data.rfind(b"\n") + 1
    if not cut:
        return Read(lines=[], damaged=[data] if data.strip(b"\0") else [], end=start + len(data))
    parts = data[: cut - 1].split(b"\n")[:most]
    lines: list[bytes] = []
    damaged: list[bytes] = []
    for part in parts:
        line, rest = _split(part.strip(b"\0"))
        if line:
            lines.append(line)
        if rest:
            damaged.append(rest)
    return Read(lines=lines, damaged=damaged, end=start + sum(len(part) + 1 for part in parts))


def _split(part: bytes) -> tuple[bytes, bytes]:
    """The entry at the end of a line and what is before it; either may be empty."""
    if _whole(part):
        return part, b""
    at = part.rfind(_BEGINNING)
    if at > 0 and _whole(part[at:]):
        return part[at:], part[:at]
    return b"", part


def _whole(line: bytes) -> bool:
    try:
        _decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True
