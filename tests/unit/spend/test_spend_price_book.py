from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from farthing.spend.price_book import PriceBook, Question, open_book
from farthing.types import Price

MINI = Question(upstream_model="gpt-4o-mini", base_url="https://api.openai.com/v1")
BY_VENDOR = Question(upstream_model="gpt-4o-mini", vendor="openai", base_url="https://gateway.example/v1")
TIERED = Question(upstream_model="gemini-2.5-pro", vendor="google")
UNKNOWN = Question(upstream_model="no-such-model-at-all", base_url="https://gateway.example/v1")
WRONG_VENDOR = Question(upstream_model="gpt-4o-mini", vendor="no-such-vendor")
QUESTIONS = [MINI, BY_VENDOR, TIERED, UNKNOWN, WRONG_VENDOR]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book on disk, made from the real data once."""
    path = tmp_path_factory.mktemp("book") / "prices.json"
    open_book(path, QUESTIONS)
    return path


def test_a_known_model_has_its_price_in_micro_dollars_a_million(kept: Path) -> None:
    book = open_book(kept, QUESTIONS)
    assert book.price(MINI) == book.price(BY_VENDOR)
    assert (book.price(MINI).input, book.price(MINI).output, book.price(MINI).source) == (150_000, 600_000, "genai-prices")
    assert 0 < book.price(MINI).cache_read < 150_000


def test_a_price_in_tiers_has_them_in_ascending_order(kept: Path) -> None:
    price = open_book(kept, QUESTIONS).price(TIERED)
    starts = [start for start, _ in price.tiers]
    assert starts == sorted(starts) != []
    assert price.tiers[-1][1].input > price.input


def test_a_model_or_vendor_that_the_data_does_not_know_has_no_price(kept: Path) -> None:
    book = open_book(kept, QUESTIONS)
    assert book.price(UNKNOWN) == book.price(WRONG_VENDOR) == Price(source="none")
    assert book.price(Question(upstream_model="never asked")) == Price()


def test_the_kept_book_is_read_and_the_data_is_not_asked_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")  # asking again would fail
    before = kept.read_bytes()
    open_book(kept, QUESTIONS)
    assert kept.read_bytes() == before


@pytest.mark.parametrize("stale", ["another version", "other questions", "torn", "not ours", "not there"])
def test_a_book_that_does_not_fit_is_made_anew(tmp_path: Path, stale: str) -> None:
    path = tmp_path / "prices.json"
    wrong = Price(input=1, source="genai-prices")
    good = PriceBook(version=version("genai-prices"), questions=[MINI], prices=[wrong])
    written = {
        "another version": msgspec.json.encode(msgspec.structs.replace(good, version="0")),
        "other questions": msgspec.json.encode(msgspec.structs.replace(good, questions=[UNKNOWN])),
        "torn": msgspec.json.encode(good)[:-5],
        "not ours": b"[]",
    }
    if stale in written:
        path.write_bytes(written[stale])
    assert open_book(path, []).questions == []  # no questions: a real look-up takes a second, and the fixture made one
    assert msgspec.json.decode(path.read_bytes(), type=PriceBook).version == version("genai-prices")


def test_the_data_is_never_loaded_into_this_process(kept: Path) -> None:
    open_book(kept, QUESTIONS)
    assert "genai_prices" not in sys.modules
