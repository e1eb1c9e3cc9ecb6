"""How a user's own data are read: plain or gzipped JSON lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from farthing.errors import InvalidRequest

_LONGEST_LINE = 4 * 2**20
_MOST_ROWS = 1_000_000


def read_rows(path: Path, shapes: str, fields: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    """The rows of a file; see `numbered_rows`."""
    return (row for _, row in numbered_rows(path, shapes, fields))


def numbered_rows(path: Path, shapes: str, fields: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with the numbers of their lines; at least one. Raises `InvalidRequest` that says which line is wrong and how.

    `shapes` says for people what rows are. `fields`: those of a row, by the field that tells its kind; the first row tells that of all.
    """
    wanted: Sequence[str] | None = None
    try:
        with gzip.open(path, "rt", encoding="utf-8") if _gzipped(path) else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                if len(line) > _LONGEST_LINE or number > _MOST_ROWS:
                    raise InvalidRequest(f"{path}: at most {_MOST_ROWS} lines of {_LONGEST_LINE} characters")
                row = _object(path, number, line, shapes)
                if wanted is None:
                    wanted = next((names for mark, names in fields.items() if mark in row), ())
                missing = [name for name in wanted if name not in row]
                if missing:
                    raise InvalidRequest(f"{path}, line {number}: {missing[0]} is missing; rows are {shapes}")
                yield number, row
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from None
    if wanted is None:
        raise InvalidRequest(f"{path} has no rows; rows are {shapes}")


def _gzipped(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _object(path: Path, number: int, line: str, shapes: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path}, line {number} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise InvalidRequest(f"{path}, line {number} is not a JSON object; rows are {shapes}")
    return row
