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
CLAUDE = Question(upstream_model="claude-sonnet-4-5", base_url="https://api.anthropic.com")
BEDROCK = {
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0": 3_300_000,
    "global.anthropic.claude-sonnet-4-5-20250929-v1:0": 3_000_000,
    "amazon.nova-lite-v1:0": 60_000,
    "apac.amazon.nova-lite-v1:0": 60_000,
    "us-gov.anthropic.claude-3-haiku-20240307-v1:0": 250_000,
    "amazon.titan-embed-text-v2:0": 20_000,
    "a1b2c3": 0,
}
"""Input prices by Amazon's price list of 2026: regional inference profiles of newer Claude models are a tenth dearer than global ones."""
QUESTIONS = [MINI, BY_VENDOR, TIERED, UNKNOWN, WRONG_VENDOR, CLAUDE, *(Question(upstream_model=name, vendor="aws") for name in BEDROCK)]


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


def test_a_prompt_cache_has_its_prices_those_for_an_hour_included(kept: Path) -> None:
    """Anthropic's price list, June 2026: writes for five minutes at 1.25 times the input, for an hour at 2; reads at 0.1."""
    price = open_book(kept, QUESTIONS).price(CLAUDE)
    assert (price.input, price.output) == (3_000_000, 15_000_000)
    assert (price.cache_read, price.cache_write, price.cache_write_1h) == (300_000, 3_750_000, 6_000_000)


def test_a_model_or_vendor_that_the_data_does_not_know_has_no_price(kept: Path) -> None:
    book = open_book(kept, QUESTIONS)
    assert book.price(UNKNOWN) == book.price(WRONG_VENDOR) == Price(source="none")
    assert book.price(Question(upstream_model="never asked")) == Price()


@pytest.mark.parametrize("model", BEDROCK)
def test_models_and_inference_profiles_of_bedrock_have_amazons_prices(kept: Path, model: str) -> None:
    assert open_book(kept, QUESTIONS).price(Question(upstream_model=model, vendor="aws")).input == BEDROCK[model]


def test_the_kept_book_is_read_and_the_data_is_not_asked_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")  # asking again would fail
    before = kept.read_bytes()
    open_book(kept, QUESTIONS)
    assert kept.read_bytes() == before


def _version(book: Path) -> str:
    found = msgspec.json.decode(book.read_bytes(), type=PriceBook).version
    assert found.startswith(version("genai-prices"))
    return found


@pytest.mark.parametrize("stale", ["another version", "other questions", "torn", "not ours", "not there"])
def test_a_book_that_does_not_fit_is_made_anew(tmp_path: Path, kept: Path, stale: str) -> None:
    path = tmp_path / "prices.json"
    wrong = Price(input=1, source="genai-prices")
    good = PriceBook(version=_version(kept), questions=[MINI], prices=[wrong])
    written = {
        "another version": msgspec.json.encode(msgspec.structs.replace(good, version="0")),
        "other questions": msgspec.json.encode(msgspec.structs.replace(good, questions=[UNKNOWN])),
        "torn": msgspec.json.encode(good)[:-5],
        "not ours": b"[]",
    }
    if stale in written:
        path.write_bytes(written[stale])
    assert open_book(path, []).questions == []  # no questions: a real look-up takes a second, and the fixture made one
    assert _version(path) == good.version


def test_the_data_is_never_loaded_into_this_process(kept: Path) -> None:
    open_book(kept, QUESTIONS)
    assert "genai_prices" not in sys.modules
