"""Prices by model name, from the genai-prices data that ships with that package; nothing is fetched.

Reading that data takes most of a second and 100 MB, so a short-lived process does it (`python -m farthing.spend.price_book`), and what it
found is kept in the data folder until the package or the question changes. Workers read only the result.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from farthing.errors import SettingsError
from farthing.spend.prices import per_million
from farthing.types import Price, utc_now

_TIMEOUT_S = 60
_LAYOUT = 2
"""Counts up whenever more is read from the data, so that kept books are made anew."""
_GEOGRAPHY = re.compile(r"^(?:global|[a-z]{2}(?:-gov)?|apac)\.(?=[a-z0-9-]+\.)")
"""Before the name of a model's maker, in the id of an inference profile of Amazon Bedrock."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which price? `vendor` is an id of the genai-prices data; where it is None, `base_url` and then the name alone are tried."""

    upstream_model: str
    vendor: str | None = None
    base_url: str | None = None


class PriceBook(msgspec.Struct, frozen=True, kw_only=True):
    """Answers in the order of the questions; `Price(source="none")` for models that the data does not know."""

    version: str
    questions: list[Question]
    prices: list[Price]

    def price(self, question: Question) -> Price:
        """The answer to one of the questions; unknown for any other."""
        return self.prices[self.questions.index(question)] if question in self.questions else Price()


def open_book(path: Path, questions: Sequence[Question]) -> PriceBook:
    """The book kept at `path`, when it answers these questions from the installed data; else a new one, kept there."""
    current = f"{version('genai-prices')}/{_LAYOUT}"
    try:
        book = msgspec.json.decode(path.read_bytes(), type=PriceBook)
    except (OSError, msgspec.MsgspecError):
        book = None
    if book is not None and book.version == current and book.questions == list(questions):
        return book
    prices = _look_up_elsewhere(questions) if questions else []
    book = PriceBook(version=current, questions=list(questions), prices=prices)
    path.write_bytes(msgspec.json.encode(book))
    return book


def _look_up_elsewhere(questions: Sequence[Question]) -> list[Price]:
    command = [sys.executable, "-m", "farthing.spend.price_book"]
    try:
        done = subprocess.run(command, input=msgspec.json.encode(questions), capture_output=True, check=True, timeout=_TIMEOUT_S)  # noqa: S603 - our own module
        return msgspec.json.decode(done.stdout, type=list[Price])
    except (subprocess.SubprocessError, msgspec.MsgspecError) as error:
        raise SettingsError(f"the price data cannot be read: {error}") from error


def look_up(questions: Sequence[Question]) -> list[Price]:
    """Read the data in this process."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - 100 MB, only in the short-lived process

    snapshot = get_snapshot()
    return [_find(snapshot, question) for question in questions]


def _find(snapshot: Any, question: Question) -> Price:
    for name, vendor, url in _ways(question):
        try:
            _, model = snapshot.find_provider_model(name, None, vendor, None if vendor else url)
        except LookupError:
            continue
        return _read(model.get_prices(utc_now()))
    return Price()


def _ways(question: Question) -> list[tuple[str, str | None, str | None]]:
    """(name, vendor, URL) to look for, the best first.

    Amazon Bedrock has its models under several names: where the data do not list an inference profile of some geography, the model's own
    price is the one to expect.
    """
    name = question.upstream_model
    if question.vendor is None:
        return [(name, None, question.base_url), (name, None, None)]
    plain = _GEOGRAPHY.sub("", name) if question.vendor == "aws" else name
    return [(one, question.vendor, None) for one in dict.fromkeys((name, plain))]


def _read(price: Any) -> Price:
    fields = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "cache_write_1h_mtok")
    starts = sorted({tier.start for field in fields for tier in getattr(getattr(price, field), "tiers", ())})
    tiers = tuple((start, _at(price, start + 1)) for start in starts)
    return msgspec.structs.replace(_at(price, 0), tiers=tiers)


def _at(price: Any, tokens: int) -> Price:
    """The price for a request with that many input tokens."""

    def unit(value: Any, default: int = 0) -> int:
        if value is None:
            return default
        for tier in getattr(value, "tiers", ()):
            if tokens > tier.start:
                value = tier.price
        return per_million(getattr(value, "base", value))

    plain = unit(price.input_mtok)
    write = unit(price.cache_write_mtok, plain)
    return Price(
        input=plain,
        output=unit(price.output_mtok),
        cache_read=unit(price.cache_read_mtok, plain),
        cache_write=write,
        cache_write_1h=unit(getattr(price, "cache_write_1h_mtok", None), write),
        source="genai-prices",
    )


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Question])
    sys.stdout.buffer.write(msgspec.json.encode(look_up(asked)))
