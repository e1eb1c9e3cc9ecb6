"""Tables on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

_UNFOLDED = 1000
"""Columns, where nobody watches: one row is one line for whoever reads the pipe."""


def print_table(columns: Sequence[str], groups: Sequence[Iterable[Sequence[str]]], *, numbers_from: int | None = None) -> None:
    """Print rows in groups with a line between them. Columns from `numbers_from` on are aligned right. Nothing is cut off."""
    from rich.console import Console  # noqa: PLC0415 - 50 ms that most commands do not need
    from rich.table import Table  # noqa: PLC0415

    table = Table()
    for at, name in enumerate(columns):
        right = numbers_from is not None and at >= numbers_from
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for rows in groups:
        for row in rows:
            table.add_row(*row)
        table.add_section()
    Console(width=None if sys.stdout.isatty() else _UNFOLDED, markup=False, emoji=False).print(table)
