"""`farthing memory score` on a user's file, with the real embedding model."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from farthing.cli.main import app
from farthing.errors import InvalidRequest

_SAID = [
    ("Ann", "I adopted a puppy from the shelter, his name is Rex."),
    ("Bob", "Congratulations! I spent the weekend repairing my bicycle."),
    ("Ann", "Nice. My sister is getting married in June, in Lisbon."),
    ("Bob", "I have started to learn the cello."),
    ("Ann", "Work was dull today, nothing but meetings."),
    ("Bob", "I am allergic to peanuts, by the way."),
]
_ASKED = [
    ("What is Ann's dog called?", ["D1:1"], 4),
    ("Which instrument does Bob play?", ["D1:4"], 4),
    ("Where will the wedding of Ann's sister take place?", ["D1:3"], 4),
    ("What food must Bob avoid?", ["D1:6"], 1),
    ("When did Bob go to the moon?", [], 5),
]


def _file(path: Path) -> Path:
    session = [{"speaker": who, "dia_id": f"D1:{at}", "text": text} for at, (who, text) in enumerate(_SAID, 1)]
    talk = {"session_1": session, "session_1_date_time": "1 May 2026"}
    asked = [{"question": text, "evidence": evidence, "category": category} for text, evidence, category in _ASKED]
    path.write_bytes(gzip.compress(json.dumps([{"sample_id": "s", "conversation": talk, "qa": asked}]).encode()))
    return path


def _scored(*arguments: object) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["memory", "score", *map(str, arguments)])
    assert done.exit_code == 0, done.exception
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_turn_that_answers_is_chosen_by_what_it_means(tmp_path: Path) -> None:
    file = _file(tmp_path / "talks.json.gz")
    tight, wide = _scored(file, "--max-tokens", 25, "--json"), _scored(file)
    assert (tight["questions"], tight["evidence_recall"]) == (4, 1.0)
    assert tight["tokens_per_question"] <= 25
    assert (wide["evidence_recall"], wide["tokens_per_question"]) == (1.0, wide["full_history_tokens"])


@pytest.mark.parametrize(
    ("data", "says"), [(b"[]", "no question"), (b"{}", "not LoCoMo"), (b"\x1f\x8bxx", "cannot be read"), (None, "cannot be read")]
)
def test_a_file_of_another_kind_is_refused_and_said_how(tmp_path: Path, data: bytes | None, says: str) -> None:
    file = tmp_path / "odd"
    if data is not None:
        file.write_bytes(data)
    done = CliRunner().invoke(app, ["memory", "score", str(file)])
    assert isinstance(done.exception, InvalidRequest)
    assert says in str(done.exception)
