"""`farthing route score` and `farthing route train` on a user's file, with the real embedding model."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from farthing.cli.main import app
from farthing.cli.texts import encoded
from farthing.errors import InvalidRequest
from farthing.providers.local.embedder import VERSION
from farthing.routing.learned.features import features_of
from farthing.routing.learned.model import LearnedModel
from farthing.routing.learned.prompt import text_of_prompt

COUNTRIES = ("France", "Spain", "Italy", "Norway", "Peru", "Chile", "Japan", "India", "Egypt", "Kenya", "Cuba", "Ghana", "Nepal", "Oman")


def _rows(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Capitals, which the weak model knows, and sums, which only the strong one can do; one in ten is the other way round."""
    dice = random.Random(seed)  # noqa: S311 - made-up rows
    for number in range(count):
        easy = number % 2 == 0
        land, a, b = dice.choice(COUNTRIES), dice.randrange(100, 999), dice.randrange(100, 999)
        capital = f"What is the capital of {land}, and on which river does it lie?"
        product = f"Multiply {a} by {b}, then subtract {number}, and give the last three digits of {a} * {b} - {number}."
        luck = dice.random() < 0.9
        yield {"prompt": capital if easy else product, "weak": int(luck) if easy else int(not luck), "strong": 1}


def _written(path: Path, rows: list[Any]) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("router")
    _written(made / "train.jsonl", list(_rows(120, 1)))
    _written(made / "test.jsonl.gz", list(_rows(80, 2)))
    named = [{"prompt": row["prompt"], "outcomes": {"smart": row["strong"], "fast": row["weak"]}} for row in _rows(120, 1)]
    _written(made / "named.jsonl", named)
    return made


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["route", *map(str, arguments)])


def _said(*arguments: object) -> dict[str, Any]:
    done = _run(*arguments)
    assert done.exit_code == 0, done.exception
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def _refused(*arguments: object) -> str:
    done = _run(*arguments)
    assert isinstance(done.exception, InvalidRequest), done.exception
    return done.exception.message


def test_a_router_is_scored_on_rows_that_it_has_not_seen_beside_baselines(folder: Path) -> None:
    found = _said("score", "--train", folder / "train.jsonl", "--test", folder / "test.jsonl.gz")
    assert (found["n_train"], found["n_test"], found["cross_validated"]) == (120, 80, False)
    assert found["apgr"] > 0.68
    low, high = found["apgr_interval"]
    assert low < found["apgr"] < high
    assert 0 < found["cpt50"] < found["cpt80"] < 50
    baselines = found["baselines"]
    assert baselines["oracle"]["apgr"] >= found["apgr"]
    assert baselines["random"] == {"apgr": 0.5, "cpt50": 50.0, "cpt80": 80.0}
    assert 0 <= baselines["prompt_length"]["apgr"] <= 1
    assert 0 <= baselines["knn40"]["apgr"] <= 1
    assert found["accuracy"]["strong"] == 1
    at = found["at_quality"]
    assert at["quality"] == 0.95
    assert at["quality_kept"] > 0.9
    assert sum(at["shares"]) == pytest.approx(1)
    assert at["cost_ratio"] == pytest.approx(0.1 * at["shares"][0] + at["shares"][1], abs=1e-3)


def test_without_test_rows_the_training_rows_are_cross_validated(folder: Path) -> None:
    found = _said("score", "--train", folder / "train.jsonl", "--quality", "0.9", "--price-ratio", "0.2")
    assert (found["n_train"], found["n_test"], found["cross_validated"]) == (120, 120, True)
    assert found["apgr"] > 0.65
    assert found["at_quality"]["quality"] == 0.9


def test_a_trained_router_is_written_loaded_and_scored_the_same(folder: Path) -> None:
    trained = _said("train", "--train", folder / "train.jsonl", "--out", folder / "x.router", "--models", "fast,smart")
    assert trained["apgr"] > 0.65
    assert trained["models"] == ["fast", "smart"]
    assert trained["bytes"] == (folder / "x.router").stat().st_size
    router = LearnedModel.load((folder / "x.router").read_bytes(), VERSION)
    assert router.models == ("fast", "smart")
    by_model = _said("score", "--model", folder / "x.router", "--test", folder / "test.jsonl.gz")
    by_rows = _said("score", "--train", folder / "train.jsonl", "--test", folder / "test.jsonl.gz")
    assert {**by_model, "models": []} == {**by_rows, "models": []}


@pytest.mark.parametrize(
    "prompt",
    [
        "Wie wird das Wetter morgen in Berlin?",
        "Schreib mir bitte eine E-Mail an meinen Chef, dass ich heute krank bin.",
        "Hallo, wie geht es dir?",
        "\u4eca\u5929\u5929\u6c14\u600e\u4e48\u6837\uff1f",
        "hi",
    ],
)
def test_a_prompt_unlike_all_that_it_learnt_from_is_not_given_to_the_weak_model_by_chance(folder: Path, prompt: str) -> None:
    path = folder / "strange.router"
    if not path.exists():
        _said("train", "--train", folder / "train.jsonl", "--out", path)
    router = LearnedModel.load(path.read_bytes(), VERSION)
    body = {"messages": [{"role": "user", "content": prompt}]}
    [one] = encoded([text_of_prompt(body)])
    assert router.choose(router.predict(one.vector, features_of(body)), 0.9, router.models).model is None


def test_rows_with_named_models_are_ordered_by_their_scores(folder: Path) -> None:
    found = _said("train", "--train", folder / "named.jsonl", "--out", folder / "y.router")
    assert found["models"] == ["fast", "smart"]


def test_where_the_strong_model_is_no_better_there_is_no_figure(folder: Path) -> None:
    alike = _written(folder / "alike.jsonl", [{**row, "strong": row["weak"]} for row in _rows(60, 3)])
    found = _said("score", "--train", folder / "train.jsonl", "--test", alike)
    assert (found["apgr"], found["cpt50"], found["cpt80"], found["apgr_interval"]) == (None, None, None, None)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "has no rows"),
        (["{"], "line 1 is not JSON"),
        (["[1]"], "line 1 is not a JSON object"),
        ([{"prompt": "x", "weak": 1}], "line 1: strong is missing"),
        ([{"weak": 1, "strong": 1}], "the prompt must be a text"),
        ([{"prompt": "x", "weak": 1, "strong": 1}, "", {"prompt": 7, "weak": 1, "strong": 1}], "line 3: the prompt must be a text"),
        ([{"prompt": "x", "weak": 1, "strong": 2}], "line 1: scores must be numbers from 0 to 1"),
        ([{"prompt": "x", "weak": "yes", "strong": 1}], "scores must be numbers"),
        ([{"prompt": "x", "outcomes": [1]}], "scores must be numbers"),
        (['{"prompt": "x", "weak": NaN, "strong": 1}'], "scores must be numbers"),
        ([{"prompt": "x", "weak": 1, "strong": 1}] * 3, "too few"),
        ([{"prompt": "x", "weak": 1, "strong": 1}] * 40, "different prompts"),
        ([{"prompt": f"x {n}", "outcomes": {"only": 1}} for n in range(30)], "between 2 and"),
    ],
)
def test_rows_that_are_wrong_are_refused_with_where_and_why(tmp_path: Path, rows: list[Any], said: str) -> None:
    path = _written(tmp_path / "rows.jsonl", rows)
    assert said in _refused("score", "--train", path)


def test_options_that_do_not_fit_are_refused_with_what_to_do(folder: Path) -> None:
    train, test = folder / "train.jsonl", folder / "test.jsonl.gz"
    assert "--train FILE" in _refused("score")
    assert "--test FILE" in _refused("score", "--model", train)
    assert "--train FILE" in _refused("score", "--model", train, "--train", train, "--test", test)
    assert "not a trained router" in _refused("score", "--model", train, "--test", test)
    assert "cannot be read" in _refused("score", "--model", folder / "nowhere", "--test", test)
    assert "cannot be read" in _refused("score", "--train", folder / "nowhere")
    assert "--prices needs 2 numbers" in _refused("score", "--train", train, "--prices", "1")
    assert "--prices must be numbers" in _refused("score", "--train", train, "--prices", "a,b")
    assert "cannot be written" in _refused("train", "--train", train, "--out", folder / "nowhere" / "x")
    _said("train", "--train", train, "--out", folder / "z.router", "--models", "fast,smart")
    assert "was trained for fast, smart, not for a, b" in _refused(
        "score", "--model", folder / "z.router", "--test", test, "--models", "a,b"
    )


@pytest.mark.parametrize("more", [["--quality", "2"], ["--quality", "0"], ["--price-ratio", "-1"], ["--seed", "-1"]])
def test_numbers_out_of_range_are_a_usage_error(folder: Path, more: list[str]) -> None:
    assert _run("score", "--train", folder / "train.jsonl", *more).exit_code == 2
