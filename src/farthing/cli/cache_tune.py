"""`farthing cache tune`: fit the semantic cache to the user's own labelled pairs, or to a log of requests and answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import yaml

from farthing.caching.scoring import Pair, Read
from farthing.caching.silver import Logged, Silver, silver_pairs
from farthing.caching.tuning import FEWEST, Tuned, tune
from farthing.caching.verifier import Verifier
from farthing.cli.cache_score import DeltaOption, labelled, read_texts
from farthing.cli.options import JsonOption
from farthing.cli.texts import embedded
from farthing.errors import InvalidRequest

_MOST_LOGGED = 20_000
_ANSWERS = ("answer", "response", "completion", "output")
_TIMES = ("at", "created", "created_at", "timestamp", "time")
_SHAPES = "{a, b, same}, or a request log: {messages or prompt, answer, at}, the answer as a text or as OpenAI's response object"


def tune_command(
    log: Annotated[Path, typer.Argument(help=f"Plain or gzipped JSON lines: {_SHAPES}.", metavar="LOG")],
    delta: DeltaOption = 0.01,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Fit the semantic cache to your own questions, and say what that would bring. Prints settings to paste into farthing.yaml."""
    rows = list(labelled(log))
    found: dict[str, Any] = {"object": "farthing.cache_tuning", "delta": delta}
    settings: dict[str, Any] = {}
    if "same" in rows[0]:
        texts = read_texts([str(row[side]) for row in rows for side in ("a", "b")])
        pairs = [Pair(a=a, b=b, same=bool(row["same"])) for a, b, row in zip(texts[::2], texts[1::2], rows, strict=True)]
        found["labelled_by"] = "pairs"
    else:
        silver = _silver(log, rows[-_MOST_LOGGED:])
        pairs = list(silver.pairs)
        found |= {"labelled_by": "answers", "requests": silver.requests, "exact_repeats": silver.exact_repeats}
        if silver.reuse_gap_s is not None:
            found["reuse_gap_s"] = silver.reuse_gap_s
            settings["exact"] = {"ttl_s": max(60, round(silver.reuse_gap_s))}
    tuned = tune(pairs, Verifier.load(), delta) if pairs else None
    found |= _figures(tuned)
    if tuned is not None and tuned.recalibration is not None and _better(tuned, delta):
        by = tuned.recalibration
        plain = {"base": round(by.base, 4), "slope": round(by.slope, 4), "adds": {name: round(value, 4) for name, value in by.adds}}
        thresholds = {bound: round(odds, 4) for bound, odds in by.thresholds}
        settings["semantic"] = {"delta": delta, "recalibration": {**plain, "thresholds": thresholds}}
    found["settings"] = {"cache": settings}
    print(json.dumps(found) if as_json else _said(found))


def _better(tuned: Tuned, delta: float) -> bool:
    """Whether tuning is worth its settings: it keeps to delta, as far as can be told, and hits more or is the only one that keeps to it."""
    shipped, fitted = tuned.shipped, tuned.tuned
    if fitted is None or fitted.false_hit_rate_interval[0] > delta:
        return False
    return shipped.false_hit_rate_interval[0] > delta or fitted.hit_rate_same > shipped.hit_rate_same


def _figures(tuned: Tuned | None) -> dict[str, Any]:
    names = ("hit_rate_same", "false_hit_rate", "error", "threshold_or_policy")
    shipped, fitted = (tuned.shipped, tuned.tuned) if tuned else (None, None)
    return {
        "n": shipped.n if shipped else 0,
        "same": shipped.same if shipped else 0,
        "shipped": {name: getattr(shipped, name) for name in names} if shipped else None,
        "tuned": {name: getattr(fitted, name) for name in names} if fitted else None,
    }


def _said(found: dict[str, Any]) -> str:
    lines = [f"{found['n']} pairs, {found['same']} of them the same, labelled by {found['labelled_by']}"]
    if "requests" in found:
        lines.append(f"{found['requests']} requests, {found['exact_repeats']:.1%} of them word for word as one before")
    for who in ("shipped", "tuned"):
        if found[who] is not None:
            same, different = found[who]["hit_rate_same"], found[who]["false_hit_rate"]
            lines.append(f"{who}: hits {same:.1%} of the same and {different:.2%} of the different (delta {found['delta']:g})")
    if found["tuned"] is None:
        lines.append(f"too little to learn from: it takes {FEWEST} pairs that are the same and {FEWEST} that are not")
    elif "semantic" not in found["settings"]["cache"]:
        lines.append("the shipped calibration does as well on these: keep it")
    if found["settings"]["cache"]:
        lines += ["", yaml.safe_dump(found["settings"], sort_keys=False).rstrip()]
    return "\n".join(lines)


def _silver(path: Path, rows: Sequence[dict[str, Any]]) -> Silver:
    logged = [one for number, row in enumerate(rows, 1) for one in _logged(path, number, row)]
    if not logged:
        raise InvalidRequest(f"{path}: no row has a question in words and an answer; rows are {_SHAPES}")
    reads: list[Read] = read_texts([one.question for one in logged])
    answers = embedded([one.answer for one in logged])
    return silver_pairs(logged, reads, answers)


def _logged(path: Path, number: int, row: dict[str, Any]) -> Iterator[Logged]:
    """A row's question with its context and answer, if it has them in words."""
    asked = row.get("request") or row.get("body") or row
    messages = asked.get("messages") if isinstance(asked, dict) else None
    prompt = row.get("prompt")
    if isinstance(messages, list) and messages and isinstance(messages[-1], dict):
        question, before = messages[-1].get("content"), messages[:-1]
    elif isinstance(prompt, str):
        question, before = prompt, []
    else:
        raise InvalidRequest(f"{path}, row {number}: has neither messages nor prompt; rows are {_SHAPES}")
    answer = next((_text(row[name]) for name in _ANSWERS if name in row), None)
    if isinstance(question, str) and question.strip() and answer:
        context = hashlib.sha256(msgspec.json.encode([before, asked.get("model") if isinstance(asked, dict) else None])).digest()
        yield Logged(question=question, context=context, answer=answer, at=next((_time(row[name]) for name in _TIMES if name in row), None))


def _text(answer: Any) -> str | None:
    if isinstance(answer, dict):
        choices = answer.get("choices")
        first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message = first.get("message") or first
        answer = message.get("content") if isinstance(message, dict) else None
    return answer if isinstance(answer, str) and answer.strip() else None


def _time(value: Any) -> float | None:
    """Unix seconds, of a number or an ISO 8601 instant."""
    try:
        return float(value) if isinstance(value, int | float) else datetime.fromisoformat(str(value)).timestamp()
    except (ValueError, OverflowError):
        return None
