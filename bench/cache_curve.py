"""Draw what `farthing cache score` found as a picture (SVG): hits among the same questions against hits among different ones.

farthing cache score PAIRS > a.json && python bench/cache_curve.py "question pairs=a.json" … > docs/semantic-cache.svg
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP = 640, 400, 60, 50
LOW, HIGH, MOST = 0.001, 1.0, 0.8
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57")


def main() -> None:
    parts = [_frame()]
    for number, given in enumerate(sys.argv[1:]):
        title, _, path = given.partition("=")
        parts.append(_drawn(title, json.loads(Path(path).read_text(encoding="utf-8")), number))
    print("\n".join([*parts, "</svg>"]))


def _x(rate: float) -> float:
    return LEFT + WIDTH * math.log(max(rate, LOW) / LOW) / math.log(HIGH / LOW)


def _y(rate: float) -> float:
    return TOP + HEIGHT * (1 - min(rate, MOST) / MOST)


def _frame() -> str:
    size = f'width="{WIDTH + 2 * LEFT}" height="{HEIGHT + 2 * TOP + 20}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13">']
    lines.append('<rect width="100%" height="100%" fill="white"/>')
    lines.append(f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#999"/>')
    for rate in (0.001, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0):
        lines.append(f'<line x1="{_x(rate):.1f}" x2="{_x(rate):.1f}" y1="{TOP}" y2="{TOP + HEIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{_x(rate):.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{rate:.1%}</text>')
    for step in range(9):
        rate = step / 10
        lines.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{_y(rate):.1f}" y2="{_y(rate):.1f}" stroke="#eee"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{_y(rate) + 4:.1f}" text-anchor="end">{rate:.0%}</text>')
    below = f'x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 42}" text-anchor="middle"'
    lines.append(f"<text {below}>different questions taken for the same (logarithmic)</text>")
    lines.append(
        f'<text x="{LEFT}" y="{TOP - 14}">same questions that hit; dashed: a threshold on the cosine alone; the dot: delta = 1%</text>'
    )
    return "\n".join(lines)


def _drawn(title: str, score: dict[str, Any], number: int) -> str:
    colour = COLOURS[number % len(COLOURS)]
    lines = []
    for name, dash in (("curve", ""), ("cosine_curve", ' stroke-dasharray="5 4"')):
        points = sorted((point["false_hit_rate"], point["hit_rate_same"]) for point in score[name])
        path = " ".join(f"{_x(false):.1f},{_y(true):.1f}" for false, true in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
    lines.append(f'<circle cx="{_x(score["false_hit_rate"]):.1f}" cy="{_y(score["hit_rate_same"]):.1f}" r="5" fill="{colour}"/>')
    lines.append(f'<text x="{LEFT + 14}" y="{TOP + 24 + 18 * number}" fill="{colour}">{title} ({score["n"]:,} pairs)</text>')
    return "\n".join(lines)


if __name__ == "__main__":
    main()
