"""`farthing simulate`: the gateway's own decisions, on virtual time."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from farthing.economics.example import example
from farthing.economics.plans import ABUSER

_COMMAND = str(Path(sys.executable).parent / "farthing")
_SMALL = ("--minutes", "5")
_LADDER = ("DEEP", "SHALLOW", "SUPER_SHALLOW")


def run(folder: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FARTHING_")}
    return subprocess.run(
        [_COMMAND, "simulate", *arguments], capture_output=True, text=True, check=check, timeout=170, cwd=folder, env=environ
    )


def simulated(folder: Path, *arguments: str) -> dict[str, Any]:
    done = run(folder, *arguments, "--json")
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def settings(folder: Path, **modes: Any) -> str:
    """The example's settings with a window of ten minutes, in which all goes six times as fast."""
    found = example()
    found["modes"] |= {"window_s": 600, "horizon_s": 150, "ceiling_usd": 8, **modes}
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(found), encoding="utf-8")
    return str(path)


def held(found: dict[str, Any]) -> None:
    """What must hold whatever comes: the ceiling, no refusal, a quick reaction, no wavering, and in the end all is as it was."""
    one, ceiling = found["with"], found["ceiling_usd"]
    assert one["spend_usd_per_window"] <= ceiling * 1.02
    assert one["refused"] == 0
    assert one["requests"] == found["without"]["requests"]
    assert one["reaction_s"] <= 1
    for scope in one["changes_by_scope"]:
        ranks = [_LADDER.index(change["modes"].get(scope, "DEEP")) for change in one["changes"]]
        deepest = ranks.index(max(ranks))
        assert ranks == [*sorted(ranks[:deepest]), *sorted(ranks[deepest:], reverse=True)], "once down, once up"
    assert one["back_in_deep_after_s"] is not None


def test_a_spike_that_would_break_the_bank_stays_under_the_ceiling(tmp_path: Path) -> None:
    found = simulated(tmp_path, "viral", "--factor", "100", "--minutes", "30")
    held(found)
    assert found["with"]["mode_changes"] == 2
    assert found["without"]["spend_usd_per_hour"] > 2 * found["ceiling_usd"]
    assert found["without"]["mode_changes"] == 0
    modes = found["with"]["by_mode_by_tier"]
    assert modes["pro"].keys() == {"DEEP"}, "those who pay notice nothing while the free tier suffices"
    assert modes["free"]["SUPER_SHALLOW"] > modes["free"]["DEEP"]
    assert sum(row["requests"] for row in found["timeline"]) == found["with"]["requests"]


@pytest.mark.parametrize(("factor", "seed"), [(50, 1), (200, 2), (600, 3)])
def test_whatever_the_size_of_the_spike_the_ceiling_holds(tmp_path: Path, factor: int, seed: int) -> None:
    found = simulated(tmp_path, "viral", *_SMALL, "--factor", str(factor), "--seed", str(seed), "--settings", settings(tmp_path))
    held(found)
    assert found["without"]["spend_usd_per_window"] > found["ceiling_usd"]
    free, pro = (found["with"]["by_mode_by_tier"][tier] for tier in ("free", "pro"))
    assert pro.get("DEEP", 0) / sum(pro.values()) >= free.get("DEEP", 0) / sum(free.values()), "who pays goes down last"


def test_whoever_drains_the_wallet_goes_down_alone(tmp_path: Path) -> None:
    found = simulated(tmp_path, "drain", *_SMALL, "--settings", settings(tmp_path))
    held(found)
    his = found["by_mode_of_key"][str(ABUSER)]
    assert his.get("SHALLOW", 0) + his.get("SUPER_SHALLOW", 0) > his["DEEP"]
    worse = {tier: sum(counts.values()) - counts["DEEP"] for tier, counts in found["with"]["by_mode_by_tier"].items()}
    assert worse == {"free": sum(his.values()) - his["DEEP"], "pro": 0}, "nobody else was in a worse mode"


def test_the_same_seed_says_the_same_and_the_picture_shows_it(tmp_path: Path) -> None:
    given = ("viral", "--minutes", "2", "--settings", settings(tmp_path))
    first, again = (simulated(tmp_path, *given, "--plot", name) for name in ("a.svg", "b.svg"))
    assert first == again
    drawn = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert drawn == (tmp_path / "b.svg").read_text(encoding="utf-8")
    assert ET.fromstring(drawn).tag.endswith("svg")  # noqa: S314 - our own


def test_your_own_traffic_is_what_is_asked(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "own.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"turns": ["word " * 50, "and more"]}) + "\n" for _ in range(20))
    found = simulated(tmp_path, "viral", "--minutes", "1", "--settings", settings(tmp_path), "--traffic", "own.jsonl.gz")
    assert found["with"]["requests"] > 100


def test_without_json_it_is_a_table_for_people(tmp_path: Path) -> None:
    done = run(tmp_path, "viral", "--minutes", "1", "--factor", "2", "--settings", settings(tmp_path))
    assert "worst rolling hour" in done.stdout
    assert "never in danger" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--traffic", "nowhere.jsonl"), "cannot be read"),
        (("--model", "nobody"), "nobody"),
        (("--model", "local"), "cost nothing"),
        (("--factor", "100000", "--base-usd-per-hour", "1000"), "at most 2,000,000"),
        (("--plot", "no/such/folder.svg"), "cannot be written"),
    ],
)
def test_what_cannot_be_simulated_is_told_in_one_line(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    done = run(tmp_path, "viral", "--minutes", "1", "--settings", settings(tmp_path), *arguments, check=False)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_settings_at_hand_without_a_ceiling_give_way_to_the_example(tmp_path: Path) -> None:
    (tmp_path / "farthing.yaml").write_text("local: {enabled: false}\n", encoding="utf-8")
    assert simulated(tmp_path, "viral", "--minutes", "1", "--factor", "2")["settings"] == "example"
    Path(settings(tmp_path)).rename(tmp_path / "farthing.yaml")
    assert simulated(tmp_path, "viral", "--minutes", "1", "--factor", "2")["settings"] == "farthing.yaml"


def test_a_ladder_of_one_rung_holds_no_ceiling(tmp_path: Path) -> None:
    given = settings(tmp_path, ladder={"DEEP": {}}, ceiling_usd=None)
    done = run(tmp_path, "viral", "--settings", given, "--ceiling-usd", "5", check=False)
    assert (done.returncode, "at least two modes" in done.stderr) == (1, True)


def test_without_a_ceiling_there_is_nothing_to_hold(tmp_path: Path) -> None:
    done = run(tmp_path, "viral", "--settings", settings(tmp_path, ceiling_usd=None), check=False)
    assert (done.returncode, "--ceiling-usd" in done.stderr) == (1, True)
