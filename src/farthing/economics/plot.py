"""A simulation as a picture (SVG): what the rolling window held, who answered, and in which mode each tier was."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

from farthing.types import Json

_WIDTH, _LEFT, _RIGHT, _TOP = 760, 70, 20, 40
_MONEY, _SHARES, _BAND, _GAP = 240, 140, 18, 46
_COLOURS = ("#1b6ca8", "#e0962b", "#2e8b57", "#8e44ad", "#7f8c8d", "#c0392b")
_MODES = ("#dfeedd", "#f7e3b5", "#f2c0b4", "#d7b4d9")
_HELD, _FREE = "#1b6ca8", "#c0392b"


def picture(found: Json, ladder: Sequence[str]) -> str:
    """The picture of what `farthing simulate` found. `ladder` names the modes, the best first."""
    rows: list[Json] = found["timeline"]
    tiers = sorted({tier for row in rows for tier in row["modes"]})
    height = _TOP + _MONEY + _GAP + _SHARES + _GAP + len(tiers) * (_BAND + 4) + _GAP
    size = f'width="{_LEFT + _WIDTH + _RIGHT}" height="{height}"'
    frame = Frame(len(rows))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        *_money(frame, rows, found["ceiling_usd"], found["window_s"]),
        *_shares(frame, rows, _TOP + _MONEY + _GAP),
        *_modes(frame, rows, tiers, ladder, _TOP + _MONEY + _GAP + _SHARES + _GAP),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class Frame:
    """Where minutes are."""

    def __init__(self, minutes: int) -> None:
        self.minutes = max(minutes, 1)

    def x(self, minute: float) -> float:
        """The place of a minute."""
        return _LEFT + _WIDTH * minute / self.minutes

    def axis(self, top: float, height: float) -> list[str]:
        """A box, and the minutes below it."""
        lines = [f'<rect x="{_LEFT}" y="{top}" width="{_WIDTH}" height="{height}" fill="none" stroke="#999"/>']
        lines += [_text(self.x(minute), top + height + 15, f"{minute} min", "middle") for minute in range(0, self.minutes + 1, 30)]
        return lines


def _money(frame: Frame, rows: Sequence[Json], ceiling: float, window_s: float) -> list[str]:
    most: float = 1.08 * max(ceiling, *(max(row["window_usd"], row["window_usd_without"]) for row in rows))

    def y(usd: float) -> float:
        return _TOP + _MONEY * (1 - usd / most)

    lines = frame.axis(_TOP, _MONEY)
    lines += [_text(_LEFT - 6, y(most * step / 4) + 4, f"${most * step / 4:,.2f}", "end") for step in range(5)]
    lines.append(
        f'<line x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y(ceiling):.1f}" y2="{y(ceiling):.1f}" stroke="#555" stroke-dasharray="6 4"/>'
    )
    lines.append(_text(_LEFT + _WIDTH - 4, y(ceiling) - 5, f"ceiling ${ceiling:,.2f}", "end"))
    for name, colour in (("window_usd_without", _FREE), ("window_usd", _HELD)):
        points = " ".join(f"{frame.x(row['minute'] + 0.5):.1f},{y(row[name]):.1f}" for row in rows)
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    lines.append(_text(_LEFT, _TOP - 12, f"spent in the last {window_s / 60:g} minutes:", "start"))
    lines.append(_text(_LEFT + 190, _TOP - 12, "with modes", "start", _HELD))
    lines.append(_text(_LEFT + 270, _TOP - 12, "without", "start", _FREE))
    return lines


def _shares(frame: Frame, rows: Sequence[Json], top: float) -> list[str]:
    models = list(dict.fromkeys(model for row in rows for model in row["by_model"]))
    lines = []
    for row in rows:
        answered, below = sum(row["by_model"].values()), 0.0
        for at, model in enumerate(models):
            share = row["by_model"].get(model, 0) / answered if answered else 0.0
            if share:
                y = top + _SHARES * (1 - below - share)
                fill = _COLOURS[at % len(_COLOURS)]
                lines.append(_box(frame.x(row["minute"]), y, _WIDTH / frame.minutes, _SHARES * share, fill))
            below += share
    lines += frame.axis(top, _SHARES)
    lines.append(_text(_LEFT, top - 8, "who answered:", "start"))
    lines += [_text(_LEFT + 100 + 110 * at, top - 8, model, "start", _COLOURS[at % len(_COLOURS)]) for at, model in enumerate(models)]
    return lines


def _modes(frame: Frame, rows: Sequence[Json], tiers: Sequence[str], ladder: Sequence[str], top: float) -> list[str]:
    fills = {name: _MODES[min(at, len(_MODES) - 1)] for at, name in enumerate(ladder)}
    lines = [_text(_LEFT, top - 8, "modes:", "start")]
    for at, name in enumerate(ladder):
        lines.append(_box(_LEFT + 60 + 150 * at, top - 18, 12, 12, fills[name]))
        lines.append(_text(_LEFT + 77 + 150 * at, top - 8, name, "start"))
    for at, tier in enumerate(tiers):
        y = top + at * (_BAND + 4)
        lines.append(_text(_LEFT - 6, y + 13, tier, "end"))
        for name, some in groupby(rows, key=lambda row, tier=tier: row["modes"].get(tier, "")):  # type: ignore[misc]  # mypy cannot infer it
            first, *_ = together = [row["minute"] for row in some]
            lines.append(_box(frame.x(first), y, frame.x(len(together)) - _LEFT, _BAND, fills.get(name, "#eee")))
    return lines


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.2f}" height="{height:.1f}" fill="{fill}"/>'


def _text(x: float, y: float, text: Any, anchor: str, fill: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(str(text))}</text>'
