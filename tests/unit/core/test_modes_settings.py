"""The ladder of the settings, and what is wrong with those that are none."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from farthing.settings import ModesSettings, Settings
from farthing.types import DEEP


def test_without_a_ladder_there_are_three_modes() -> None:
    ladder = Settings().ladder()
    assert [rung.name for rung in ladder] == ["DEEP", "SHALLOW", "SUPER_SHALLOW"]
    assert [rung.rank for rung in ladder] == [0, 1, 2]
    assert ladder[0] is DEEP
    assert (ladder[1].model, ladder[1].retrieval_chunks, ladder[1].retrieval_tokens) == (None, 3, 1500)
    assert ladder[2].model == "local"


def test_without_a_free_model_the_lowest_mode_only_shortens() -> None:
    assert Settings.model_validate({"local": {"enabled": False}}).ladder()[2].model is None


def test_the_free_model_of_budgets_answers_on_the_lowest_rung() -> None:
    settings = {
        "providers": {"p": {"kind": "openai_compatible", "base_url": "http://127.0.0.1:1"}},
        "models": {"small": {"provider": "p", "upstream_model": "s"}},
        "budgets": {"free_model": "small"},
    }
    assert Settings.model_validate(settings).ladder()[2].model == "small"


def test_a_ladder_may_have_names_of_its_own() -> None:
    modes = ModesSettings.model_validate({"ladder": {"full": {}, "half": {"max_tokens": 500, "judge": False}}})
    full, half = modes.rungs(None)
    assert (full.name, full.rank, full.max_tokens) == ("full", 0, None)
    assert (half.name, half.rank, half.max_tokens, half.judge, half.cascade) == ("half", 1, 500, False, True)


@pytest.mark.parametrize(
    ("modes", "why"),
    [
        ({"ladder": {"a": {"max_tokens": 5}, "b": {}}}, r"ladder\.b\.max_tokens"),
        ({"ladder": {"a": {"history_turns": 5}, "b": {"history_turns": 6}}}, r"ladder\.b\.history_turns"),
        ({"ladder": {"a": {"judge": False}, "b": {}}}, r"ladder\.b\.judge"),
        ({"ladder": {"a": {"cache_ttl_stretch": 4}, "b": {}}}, r"ladder\.b\.cache_ttl_stretch"),
        ({"ladder": {"a": {"cache_delta": 0.1}, "b": {"cache_delta": 0.02}}}, r"ladder\.b\.cache_delta"),
        ({"ladder": {"": {}}}, "1 to 64 letters"),
        ({"ladder": {"a b": {}}}, "1 to 64 letters"),
        ({"ladder": {"x" * 65: {}}}, "1 to 64 letters"),
        ({"ladder": {str(at): {} for at in range(17)}}, "at most 16"),
        ({"ladder": {"a": {}}, "ceiling_usd": 5}, "at least two modes"),
        ({"ladder": {"a": {}}, "tenants": {"acme": {"ceiling_usd": 5}}}, "at least two modes"),
        ({"ladder": {"a": {"max_tokens": 0}}}, "greater than or equal to 1"),
        ({"ladder": {"a": {"tokens": 5}}}, "tokens"),
        ({"window_s": 60, "horizon_s": 61}, "longer than window_s"),
        ({"window_s": 60, "dwell_s": 61}, "longer than window_s"),
        ({"tiers": ["free", "free"]}, "each tier once"),
        ({"ceiling_usd": -1}, "greater than or equal to 0"),
        ({"ceiling_usd": "nan"}, "finite"),
    ],
)
def test_what_is_no_ladder_is_told(modes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        ModesSettings.model_validate(modes)


def test_an_unknown_model_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ValidationError, match=r"modes\.ladder\.b\.model: there is no 'locl'; did you mean 'local'"):
        Settings.model_validate({"modes": {"ladder": {"a": {}, "b": {"model": "locl"}}}})
