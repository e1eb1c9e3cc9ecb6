"""What routing saves on a mixed workload, and what it costs in quality: four easy questions to a hard one, for which a weak model is wrong.

    .venv/bin/python bench/mixed.py ../shared/data/router [--work /tmp/farthing-mixed] [--splits 5] [--asked 400]

The folder has mmlu.jsonl.gz and gsm8k.jsonl.gz of RouteLLM's evaluations: {prompt, weak, strong}, whether Mixtral-8x7B and GPT-4-1106
were right. Half of the rows is learnt from, and whatever is chosen is chosen on it; the workload is made of the other half. Each line is
replayed in process on all unseen rows of each split, and of the first split on `--asked` of them through a real server (0: not at all):
accuracy from the answers, cost from the ledger. Embeddings are kept in --work. Progress and a table go to stderr, one JSON object to the
last line of stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from farthing.providers.local.embedder import VERSION
from farthing.routing.learned.outcomes import Table, table_of
from farthing.routing.learned.training import Trained, metrics, trained_on
from farthing.spend.price_book import Question as PriceQuestion
from farthing.spend.price_book import open_book
from farthing.testing.quality import in_share
from farthing.types import Price
from mixing.answers import ANSWER_TOKENS, Assumed
from mixing.questions import STRONG, WEAK, Question, halves, mixed, read
from mixing.replay import KEPT, Flags, Learnt, Result, Workload, chosen_length, chosen_quality, summary
from mixing.serving import UPSTREAM, Plan, server

SETS = {"both": ("mmlu", "gsm8k"), "mmlu": ("mmlu",), "gsm8k": ("gsm8k",)}
NOTHING = Assumed()
ASSUMED = {
    "checked": [Assumed(0.25), Assumed(0.5)],
    "judged": [Assumed(0.25, 0.05, judged=True), Assumed(0.5, 0.0, judged=True), Assumed(0.5, 0.05, judged=True)],
}
ENOUGH = 0.6


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table in one split. `first`: where the weak model is asked first."""

    name: str
    model: str
    first: Flags
    assumed: Assumed | None = None
    quality: float | None = None


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """What was learnt from one half, and what is asked of the other."""

    trained: Trained
    learnt: Learnt
    length: tuple[bool, int]
    unseen: Workload
    lines: list[Line]

    @property
    def known(self) -> Question:
        """One of the unseen that the learned router has an opinion of."""
        pairs = zip(self.unseen.questions, self.learnt.predictions, strict=True)
        return next(one for one, said in pairs if said.known)


def main() -> None:
    given = arguments()
    if not all((given.data / f"{name}.jsonl.gz").exists() for name in SETS["both"]):
        say(f"!!! SKIPPED: {given.data} has no mmlu.jsonl.gz and gsm8k.jsonl.gz")
        print(json.dumps({"bench": "mixed", "skipped": f"no data in {given.data}"}))
        return
    prices = prices_at(given.work)
    known = {name: read(given.data, name, given.work) for name in SETS["both"]}
    found: dict[str, Any] = {
        "bench": "mixed",
        "machine": {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()},
        "splits": given.splits,
        "answer_tokens": ANSWER_TOKENS,
        "prices": msgspec.to_builtins(prices),
    }
    for title, names in SETS.items():
        questions = [one for name in names for one in known[name]]
        splits = [split_of(questions, prices, seed, resampled=True) for seed in range(given.splits)]
        found[title] = summed(splits)
        if title == "both":
            as_they_come = [split_of(questions, prices, seed, resampled=False) for seed in range(given.splits)]
            found["as_they_come"] = summed(as_they_come)
            found["served"] = served(splits[0], prices, given.asked) if given.asked else None
            say(table("both, learnt from rows as they come", found["as_they_come"]))
        say(table(title, found[title]))
    print(json.dumps(found))


def split_of(questions: Sequence[Question], prices: Mapping[str, Price], seed: int, *, resampled: bool) -> Split:
    """`resampled`: the rows that are learnt from have the workload's mix, by their own labels, as a user's own traffic would."""
    rest, others = halves(questions, seed)
    rows = mixed(rest, seed) if resampled else rest
    table = table_of([one.row for one in rows], (WEAK, STRONG), seed)
    trained = trained_on(table, (WEAK, STRONG), embedder=VERSION, seed=seed)
    seen, unseen = Workload(in_order(rows, table), prices), Workload(mixed(others, seed), prices)
    learnt, length = Learnt.of(trained.model, unseen.questions), chosen_length(seen)
    say(f"split {seed}: learnt from {len(rows)} rows, APGR {metrics(trained, seed)['apgr']}, {len(unseen.questions)} unseen")
    return Split(trained=trained, learnt=learnt, length=length, unseen=unseen, lines=lines_of(trained, learnt, length, seen, unseen))


def in_order(questions: Sequence[Question], table: Table) -> list[Question]:
    """As the rows of the table are."""
    places: dict[tuple[bytes, float, float], list[Question]] = {}
    for one in questions:
        places.setdefault((one.row.vector, float(one.weak), float(one.strong)), []).append(one)
    rows = zip(table.vectors, table.scores.tolist(), strict=True)
    return [places[vector.tobytes(), scores[0], scores[1]].pop() for vector, scores in rows]


def lines_of(trained: Trained, learnt: Learnt, length: tuple[bool, int], seen: Workload, unseen: Workload) -> list[Line]:
    everywhere = np.ones(len(unseen.questions), bool)
    quality = chosen_quality(trained, seen, None)
    learned = learnt.first(quality)
    random = np.array([in_share(f"random {one.prompt}", float(learned.mean())) for one in unseen.questions])
    short, limit = length
    lines = [
        Line(name="strong", model=STRONG, first=~everywhere),
        Line(name="weak", model=WEAK, first=everywhere),
        Line(name="random", model="", first=random),
        Line(name="length", model="length", first=unseen.tokens <= limit if short else unseen.tokens >= limit),
        Line(name="learned", model="learned", first=learned, quality=quality),
    ]
    for kind, some in ASSUMED.items():
        lines += [Line(name=named(kind, one), model=kind, first=everywhere, assumed=one) for one in some]
        for one in some:
            quality = chosen_quality(trained, seen, one)
            router = f"learned-{kind}"
            lines.append(Line(name=named(router, one), model=router, first=learnt.first(quality), assumed=one, quality=quality))
    return lines


def named(kind: str, assumed: Assumed) -> str:
    return f"{kind} {assumed.seen:.0%}" + (f"/{assumed.alarms:.0%}" if assumed.judged else "")


def summed(splits: Sequence[Split]) -> dict[str, Any]:
    """Each line over all splits, and the learned router at each quality."""
    lines = {}
    for at, line in enumerate(splits[0].lines):
        results = [split.unseen.played(split.lines[at].first, split.lines[at].assumed) for split in splits]
        lines[line.name] = columns(results) | {"quality": [split.lines[at].quality for split in splits]}
    sweep = {
        q: columns([split.unseen.played(split.learnt.first(q)) for split in splits]) for q in (0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
    }
    unknown = round(float(np.mean([split.learnt.unknown for split in splits])), 4)
    sizes = {"learnt_from": len(splits[0].trained.table.vectors), "unseen": len(splits[0].unseen.questions), "unknown": unknown}
    return {**sizes, "lines": lines, "sweep": sweep}


def columns(results: Sequence[Result]) -> dict[str, Any]:
    """`reached` in how many splits at least 60% was saved at 97% or more."""
    found: dict[str, Any] = {
        name: summary([getattr(one, name) for one in results]) for name in ("accuracy", "kept", "saved", "strong_share")
    }
    return found | {"reached": sum(one.kept >= KEPT and one.saved >= ENOUGH for one in results)}


def served(split: Split, prices: Mapping[str, Price], asked: int) -> dict[str, Any]:
    """The same lines through the server, and whether they came out as in process."""
    some = mixed(split.unseen.questions, 0, asked)
    places = {one.prompt: at for at, one in enumerate(split.unseen.questions)}
    rows = [places[one.prompt] for one in some]
    work, folder = Workload(some, prices), Path(tempfile.mkdtemp(prefix="farthing-mixed-", dir="/tmp"))
    found = {}
    try:
        with server(folder / "up", split.length) as running:
            running.promote(split.trained.model, split.known)
            for number, line in enumerate(split.lines):
                first = line.first[rows]
                models = [line.model or (WEAK if one else STRONG) for one in first]
                plan = Plan(name=f"line-{number}", models=models, quality=line.quality, assumed=line.assumed or NOTHING)
                real, expected = running.played(plan, some), work.played(first, line.assumed)
                found[line.name] = compared(real, expected, work, routed=line.model not in ("", WEAK, STRONG))
                say(f"{line.name}: {json.dumps(found[line.name])}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def compared(real: Mapping[str, Any], expected: Result, work: Workload, *, routed: bool) -> dict[str, Any]:
    """`as_in_process`: answers, who gave them, the bill to the micro-dollar, and what the report says that a router saved."""
    best, dear = int(work.strong.sum()), work.played(np.zeros(len(work.questions), bool)).microusd
    right, strong = round(expected.accuracy * real["n"]), round(expected.strong_share * real["n"])
    wanted = (right, strong, expected.microusd, dear - expected.microusd if routed else 0)
    same = (real["right"], real["strong"], real["microusd"], real["saved_by_report"]) == wanted
    return {**real, "kept": round(real["right"] / best, 4), "saved": round(1 - real["microusd"] / dear, 4), "as_in_process": same}


def prices_at(work: Path) -> dict[str, Price]:
    """What Farthing takes the two models to cost."""
    work.mkdir(parents=True, exist_ok=True)
    asked = {name: PriceQuestion(upstream_model=model, vendor=vendor) for name, (vendor, model) in UPSTREAM.items()}
    book = open_book(work / "prices.json", list(asked.values()))
    return {name: book.price(question) for name, question in asked.items()}


def table(title: str, found: Mapping[str, Any]) -> str:
    """For people."""
    rows = [f"{title}: learnt from {found['learnt_from']}, {found['unseen']} unseen, {found['unknown']:.1%} unknown"]
    for name, line in found["lines"].items():
        cells = "".join(f"{x['mean']:8.1%} ({x['least']:.1%} to {x['most']:.1%})" for x in (line["kept"], line["saved"]))
        rows.append(f"  {name:24}{cells}{line['strong_share']['mean']:8.1%}  reached {line['reached']}  {line['quality']}")
    rows += [f"  quality {q}: {line['kept']['mean']:.1%} kept, {line['saved']['mean']:.1%} saved" for q, line in found["sweep"].items()]
    return "\n".join(rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("/tmp/farthing-mixed"), help="where embeddings are kept")  # noqa: S108 - a default
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--asked", type=int, default=400)
    return parser.parse_args()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
