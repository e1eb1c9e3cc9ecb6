"""Structured logs: one JSON object a line on standard error, whatever is in a message.

No line can be forged: what could end a line or steer a terminal is escaped. No key is shown: what looks like one is masked, in messages,
extra fields and tracebacks alike. A reader of the logs that does not keep up costs log lines, not answers.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import select
import sys
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec

from farthing.telemetry.instruments import error_type
from farthing.types import LedgerEntry, Request

REQUEST_ID: ContextVar[UUID | None] = ContextVar("farthing_request_id", default=None)
"""The request that the running task serves; each line logged meanwhile has it. A record's own `request_id` goes first."""

Level = Literal["debug", "info", "warning", "error"]

_MASK = "[masked]"
_REPETITIVE = frozenset({"psycopg.pool"})
"""It tells of each attempt to connect, while the database is away for hours."""
_LONGEST_TEXT = 4_000
_LONGEST_TRACEBACK = 16_000
_MAX_EXTRAS = 32
_PIPE_BUF = 4096
"""A pipe that can be written to takes this much at once (POSIX, PIPE_BUF on Linux), and takes it in one piece."""
_WRITE_DEADLINE_S = 0.2
_MAX_SAFE_INT = 2**63

_SECRETS = (
    (re.compile(r"\b((?:fk|sk|pk|rk)-)[A-Za-z0-9_\-]{6,}"), rf"\1{_MASK}"),
    (re.compile(r"\b(Bearer|Basic)(\s+|%20)[A-Za-z0-9._~+/=\-]{4,}", re.IGNORECASE | re.ASCII), rf"\1 {_MASK}"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}|\bAIza[A-Za-z0-9_\-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}"), _MASK),
    (re.compile(r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*)?"), _MASK),
    (re.compile(r"([a-z][a-z0-9+.\-]{0,20}://[^\s/:@]{0,64}:)[^\s/@]{1,256}@", re.IGNORECASE | re.ASCII), rf"\1{_MASK}@"),
    (
        re.compile(
            r"""((?:api[_\-]?key|access[_\-]?token|auth[_\-]?token|client[_\-]?secret|password|passwd|secret)["']?\s{0,3}[:=]\s{0,3}["']?)"""
            r"""[^\s"',;&}\]]{3,}""",
            re.IGNORECASE | re.ASCII,
        ),
        rf"\1{_MASK}",
    ),
)
_HINTS = (
    "fk-",
    "sk-",
    "pk-",
    "rk-",
    "bearer",
    "basic",
    "akia",
    "asia",
    "aiza",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "eyj",
    "://",
    "key",
    "token",
    "passw",
    "secret",
)
"""Without one of these in it (in lower case), a text matches none of the patterns: and looking for these is quick."""
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
"""What JSON leaves as it is though it ends lines or steers terminals: DEL, C1 controls, line separators, direction marks."""
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "request_id"}


def mask(text: str) -> str:
    """The text without what looks like a key, a token or a password."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _bounded(text: str, longest: int = _LONGEST_TEXT) -> str:
    cut = text if len(text) <= longest else text[:longest] + "…"
    return cut if cut.isascii() else cut.encode("utf-8", "backslashreplace").decode()


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, request_id, what was given as `extra`, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`. The line has no line break in it and is not ended by one."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  # arguments that do not fit, or whose str() fails, must not lose the line
            message = f"{record.msg!s} (arguments do not fit)"
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": _bounded(record.name),
            "message": _bounded(message),
        }
        request_id = getattr(record, "request_id", None) or REQUEST_ID.get()
        if request_id is not None:
            line["request_id"] = _bounded(str(request_id))
        for name in itertools.islice((name for name in record.__dict__ if name not in _STANDARD), _MAX_EXTRAS):
            line.setdefault(_bounded(name), _plain(record.__dict__[name]))
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = _end_of("".join(traceback.format_exception(*record.exc_info)))
        if record.stack_info:
            line["stack"] = _end_of(record.stack_info)
        return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", msgspec.json.encode(_masked(line)).decode())


def _masked(line: dict[str, object]) -> dict[str, object]:
    """The line with every text masked. Nearly all lines have nothing to mask: one look at all their texts together tells."""
    together = "\0".join([text for text in line.values() if isinstance(text, str)]).lower()
    if not any(hint in together for hint in _HINTS):
        return line
    return {name: mask(value) if isinstance(value, str) else value for name, value in line.items()}


def _end_of(text: str) -> str:
    """A traceback says what happened at its end: of a long one, that is kept. Masked before it is cut, or half a key could be left."""
    return _bounded(mask(text[-2 * _LONGEST_TRACEBACK :])[-_LONGEST_TRACEBACK:], _LONGEST_TRACEBACK)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < _MAX_SAFE_INT:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    try:
        return _bounded(str(value))
    except Exception:  # noqa: BLE001  # a value whose str() fails must not lose the line
        return f"<{type(value).__name__}>"


class LineHandler(logging.Handler):
    """Writes lines to a file descriptor that it never waits for: when the reader is behind, lines are dropped and counted.

    A line up to 4096 bytes is written in one piece, so that workers that share the descriptor do not mix theirs. The next line that gets
    through is preceded by one that says how many were dropped.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._torn = False
        self.dropped = 0
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        try:
            line = self.format(record).encode() + b"\n"
            if self._torn and self._writable(0):
                _write_all(self._fd, b"\n")
                self._torn = False
            if self.dropped and self._writable(0):
                notice = logging.makeLogRecord({"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"})
                notice.msg, notice.args = "%d log lines were dropped: their reader is behind", (self.dropped,)
                self.dropped = 0
                self._write(self.format(notice).encode() + b"\n")
            self._write(line)
        except Exception:  # noqa: BLE001  # a log that cannot be written must not cost an answer
            self.dropped += 1

    def _write(self, line: bytes) -> None:
        if not self._writable(0):
            self.dropped += 1
            return
        deadline = time.monotonic() + _WRITE_DEADLINE_S
        for start in range(0, len(line), _PIPE_BUF):
            if start and not self._writable(max(0.0, deadline - time.monotonic())):
                self.dropped += 1
                self._torn = True
                return
            _write_all(self._fd, line[start : start + _PIPE_BUF])

    def _writable(self, wait_s: float) -> bool:
        return any(event & select.POLLOUT for _, event in self._poll.poll(wait_s * 1000))


class Sparing(logging.Filter):
    """Lets one record in `every_s` seconds through of each of these loggers, which repeat themselves; it tells how many were left out."""

    def __init__(self, loggers: frozenset[str], *, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._loggers = loggers
        self._every_s = every_s
        self._clock = clock
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        name = record.name
        if name not in self._loggers:
            return True
        now = self._clock()
        if now < self._next.get(name, now):
            self._left_out[name] = self._left_out.get(name, 0) + 1
            return False
        self._next[name] = now + self._every_s
        record.left_out = self._left_out.pop(name, 0)
        return True


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def setup(level: Level, *, fd: int | None = None) -> LineHandler:
    """Send all of Python's logging, warnings included, to `fd` (standard error) as JSON lines. Replaces what was set up before.

    Farthing's own loggers speak from `level` up, libraries from `warning` up (all of them at `debug`).
    """
    handler = LineHandler(sys.stderr.fileno() if fd is None else fd)
    if level != "debug":
        handler.addFilter(Sparing(_REPETITIVE, every_s=60.0))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    own = getattr(logging, level.upper())
    root.setLevel(own if level == "debug" else max(own, logging.WARNING))
    logging.getLogger("farthing").setLevel(own)
    logging.captureWarnings(capture=True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # they bring handlers of their own
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = name != "uvicorn.access"  # the request log says it better
    return handler


class RequestLog:
    """An observer that logs one line a request, at `info`. Never prompt or answer text."""

    def __init__(self) -> None:
        self._log = logging.getLogger("farthing.requests")

    def observe(self, entry: LedgerEntry, request: Request) -> None:
        """Log the entry that settled a request. Never raises."""
        if not entry.final or not self._log.isEnabledFor(logging.INFO):
            return
        self._log.info(
            "request",
            extra={
                "request_id": str(entry.request_id),
                "tenant": entry.tenant,
                "operation": str(entry.operation),
                "model": entry.model_used,
                "provider": entry.provider,
                "source": str(entry.source),
                "status": entry.status,
                "error": None if entry.error is None else error_type(entry.error),
                "stream": entry.stream,
                "attempt": entry.attempt,
                "route": entry.route,
                "tokens_in": entry.tokens_in,
                "tokens_out": entry.tokens_out,
                "cost_microusd": entry.cost_microusd,
                "saved_microusd": entry.saved_microusd,
                "duration_ms": (time.perf_counter_ns() - request.started_ns) // 1000 / 1000,
                "ttft_ms": None if entry.ttft_us is None else entry.ttft_us / 1000,
            },
        )
