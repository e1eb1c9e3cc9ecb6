"""How good a model is as the one that reads facts: what it says of turns.jsonl as it is, and what is left after validation.

    .venv/bin/python bench/extraction/run.py                                   # the local model, on an installation of its own
    .venv/bin/python bench/extraction/run.py --url URL --key KEY --model NAME  # any model of a running installation

Prints one JSON line. A fact is right when its key is the expected one and its value has the expected word in it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from farthing.memory.prompt import Prompt
from farthing.memory.reading import CHAT_TURN, Reading
from farthing.memory.validation import Validation, items_of
from farthing.settings import MemorySettings
from farthing.testing.installation import Installation
from farthing.types import Event

Pair = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description="How good a model is as the one that reads facts.")
    parser.add_argument("--url", help="of an installation; unless given, one with the local model is started")
    parser.add_argument("--key")
    parser.add_argument("--model", default="local")
    given = parser.parse_args()
    rows = [json.loads(line) for line in Path(__file__).with_name("turns.jsonl").read_text(encoding="utf-8").splitlines()]
    with ExitStack() as stack:
        url, key = given.url, given.key
        if url is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))  # not below /root
            house = stack.enter_context(Installation(folder))
            url, key = house.base_url, house.key
        client = stack.enter_context(httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120))
        print(json.dumps(measured(client, given.model, rows)))


def measured(client: httpx.Client, model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    settings = MemorySettings.model_validate({"extractor": {"model": model}})
    prompt, read, validation = Prompt(settings), Reading(settings), Validation(settings)
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for row in rows:
        said = [one for one in (read(_turn(number, text)) for number, text in enumerate(row["turns"])) if one is not None]
        items = _answered(client, prompt.question(said)) if said else []
        counts["not_json"] += items is None
        facts, dropped = validation.facts(items or [], said, "ann", f"model:{model}")
        reasons.update(dropped)
        expected = [(key, value.casefold()) for key, value in row["facts"]]
        _count(counts, "raw", [(str(one.get("key")), str(one.get("value"))) for one in items or [] if isinstance(one, dict)], expected)
        _count(counts, "kept", [(fact.key, str(fact.value)) for fact in facts], expected)
        counts["expected"] += len(expected)
        counts["quiet"] += not expected
        counts["quiet_raw"] += not expected and not items
        counts["quiet_kept"] += not expected and not facts
    return {
        "model": model,
        "questions": len(rows),
        "not_json": counts["not_json"],
        "raw": _shares(counts, "raw"),
        "kept": _shares(counts, "kept"),
        "dropped": dict(reasons),
    }


def _turn(number: int, text: str) -> Event:
    now = datetime.now(UTC)
    return Event(
        id=str(number),
        source="bench",
        type=CHAT_TURN,
        tenant="t",
        user="ann",
        time=now,
        received_at=now,
        data={"text": text, "role": "user"},
    )


def _answered(client: httpx.Client, body: dict[str, Any]) -> list[Any] | None:
    answer = client.post("/chat/completions", json={**body, "farthing": {"cache": "off"}})
    answer.raise_for_status()
    return items_of(answer.json()["choices"][0]["message"]["content"])


def _count(counts: Counter[str], which: str, found: list[Pair], expected: list[Pair]) -> None:
    counts[f"{which}_said"] += len(found)
    counts[f"{which}_right"] += sum(any(key == one and word in value.casefold() for one, word in expected) for key, value in found)
    counts[f"{which}_found"] += sum(any(key == one and word in value.casefold() for key, value in found) for one, word in expected)


def _shares(counts: Counter[str], which: str) -> dict[str, Any]:
    said = counts[f"{which}_said"]
    return {
        "facts": said,
        "precision": round(counts[f"{which}_right"] / said, 3) if said else None,
        "recall": round(counts[f"{which}_found"] / counts["expected"], 3),
        "quiet_where_nothing_lasts": round(counts[f"quiet_{which}"] / counts["quiet"], 3),
    }


if __name__ == "__main__":
    main()
