"""Questions of which it is known whether a weak and a strong model answered them right, and workloads made of them."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec

from farthing.cli.texts import encoded
from farthing.routing.learned.features import features_of
from farthing.routing.learned.outcomes import Row
from farthing.routing.learned.prompt import text_of_prompt
from farthing.types import Json

WEAK, STRONG = "mixtral-8x7b", "gpt-4-1106"
EASY_SHARE = 0.8


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`weak` and `strong`: whether that model was right. `row` is what a router learns from."""

    prompt: str
    weak: bool
    strong: bool
    row: Row

    @property
    def name(self) -> str:
        return hashlib.sha256(self.prompt.encode()).hexdigest()[:16]


def body_of(prompt: str) -> Json:
    """The request, but for its model. JSON is asked for, so that the check of the format has something to hold answers to."""
    return {"messages": [{"role": "user", "content": prompt}], "response_format": {"type": "json_object"}}


def read(folder: Path, name: str, keep: Path | None) -> list[Question]:
    """The distinct prompts of `name`.jsonl.gz. `keep` is where their embeddings are kept, which take minutes."""
    found: dict[str, Json] = {}
    for line in gzip.decompress((folder / f"{name}.jsonl.gz").read_bytes()).splitlines():
        row = msgspec.json.decode(line)
        found.setdefault(row["prompt"], row)
    vectors = _vectors([text_of_prompt(body_of(prompt)) for prompt in found], keep / f"mixed-{name}.msgpack" if keep else None)
    return [
        Question(
            prompt=prompt,
            weak=row["weak"] == 1,
            strong=row["strong"] == 1,
            row=Row(vector=vector, features=features_of(body_of(prompt)), scores={WEAK: float(row["weak"]), STRONG: float(row["strong"])}),
        )
        for (prompt, row), vector in zip(found.items(), vectors, strict=True)
    ]


def _vectors(texts: Sequence[str], kept: Path | None) -> list[bytes]:
    known = msgspec.msgpack.decode(kept.read_bytes(), type=dict[str, bytes]) if kept and kept.exists() else {}
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    known |= {text: one.vector for text, one in zip(missing, encoded(missing), strict=True)} if missing else {}
    if kept and missing:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(msgspec.msgpack.encode(known))
    return [known[text] for text in texts]


def halves(questions: Sequence[Question], seed: int) -> tuple[list[Question], list[Question]]:
    """To learn from, and unseen."""
    shuffled = random.Random(f"halves {seed}").sample(questions, len(questions))  # noqa: S311 - a shuffle
    return shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]


def mixed(questions: Sequence[Question], seed: int, most: int | None = None) -> list[Question]:
    """As many as there are (or `most`) with four in five easy, in an order of chance. Easy: the weak model is right."""
    dice = random.Random(f"mix {seed}")  # noqa: S311 - a shuffle
    easy, hard = ([one for one in questions if one.weak is is_easy] for is_easy in (True, False))
    count = int(min(len(easy) / EASY_SHARE, len(hard) / (1 - EASY_SHARE), most or len(questions)))
    of_easy = round(count * EASY_SHARE)
    made = dice.sample(easy, of_easy) + dice.sample(hard, count - of_easy)
    dice.shuffle(made)
    return made
