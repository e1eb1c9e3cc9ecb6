"""`farthing memory score`: on the user's own conversations, without a running installation."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from farthing.cli.options import JsonOption
from farthing.cli.texts import embedded
from farthing.errors import InvalidRequest
from farthing.memory.locomo import conversations
from farthing.memory.scoring import Vectors, score, texts_of

_MOST_BYTES = 256 * 2**20

FileArgument = Annotated[Path, typer.Argument(help="Conversations in LoCoMo's JSON, plain or gzipped.", metavar="FILE")]
TokensOption = Annotated[int, typer.Option(help="At most so many tokens of context for a question.", min=1, max=1_000_000)]


def score_command(
    file: FileArgument,
    max_tokens: TokensOption = 1450,
    as_json: JsonOption = True,  # noqa: ARG001, FBT002 - it is JSON in any case, as of all scorers
) -> None:
    """Score the choice of turns: how much of the evidence stands in the context, and how many tokens that has. Prints one JSON object.

    Evidence recall is the share of a question's evidence turns (categories 1 to 4) in the context chosen for it, averaged over questions.
    """
    found = conversations(_read(file))
    if not any(one.questions for one in found):
        raise InvalidRequest(f"{file} has no question of categories 1 to 4 that names a turn as evidence")
    distinct = list(dict.fromkeys(texts_of(found)))
    known = dict(zip(distinct, embedded(distinct), strict=True))

    def vectors(texts: list[str]) -> Vectors:
        return [known[text] for text in texts]

    scored = score(found, lambda texts: vectors(list(texts)), max_tokens=max_tokens)
    print(json.dumps(msgspec.to_builtins(scored)))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            gzipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if gzipped else path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}") from None
    if len(data) > _MOST_BYTES:
        raise InvalidRequest(f"{path} has more than {_MOST_BYTES} bytes")
    return data
