"""Schemathesis throws thousands of requests made from our own OpenAPI document at a running server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from probes import Probe

from farthing.testing.echo import Received
from farthing.testing.installation import Installation
from farthing.testing.replies import Reply, completion, embeddings, stream
from farthing.testing.upstream import ScriptedUpstream


def _answer(received: Received) -> Reply:
    return stream(("hi",)) if received.body.get("stream") else completion("hi")


def _document(fleet: Installation, folder: Path) -> Path:
    """Our document, with models that exist, so that good requests get through to an upstream."""
    status, body = fleet.get("/openapi.json", key=fleet.key)
    assert status == 200
    document = json.loads(body)
    models = {"ChatBody": "pair", "ResponsesBody": "pair", "CompletionBody": "pair", "EmbeddingsBody": "vectors"}
    models |= {"MessagesBody": "pair", "CountBody": "pair"}
    for schema, name in models.items():
        document["components"]["schemas"][schema]["properties"]["model"] = {"enum": [name]}
    path = folder / "openapi.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_schemathesis_finds_nothing(fleet: Installation, fleet_probe: Probe, up: ScriptedUpstream, tmp_path: Path) -> None:
    """No 5xx, no undocumented status, no answer of another type, no door without its key.

    One check is left out: that all that fits the document is taken. JSON Schema cannot say all (a message list must not be empty).
    """
    up.script("first", _answer)
    up.script("vectors", embeddings(1, 8))
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", str(_document(fleet, tmp_path)), "--url", fleet.url]
    command += ["--header", f"Authorization: Bearer {fleet.key}", "--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    command += ["--seed", "1", "--max-examples", "10", "--phases", "examples,coverage,fuzzing", "--no-shrink", "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " generated, " in done.stdout, done.stdout[-2000:]
    fleet_probe.quiet()
    assert len(up.of("pair")) + len(up.of("first")) > 10, "good requests get through"
    assert '"level":"error"' not in fleet.log.read_text(encoding="utf-8")
