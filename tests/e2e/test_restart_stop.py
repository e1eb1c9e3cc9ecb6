"""SIGTERM: what is under way is finished, nothing new is begun, nothing is left."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
from inside import eventually, new_key, processes_of
from openai import OpenAI

from farthing.testing.installation import Installation
from farthing.testing.upstream import ScriptedUpstream, stream

_WORDS = [f"{number} " for number in range(20)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stream_under_way_is_finished_and_nothing_is_left(folders: Path, up: ScriptedUpstream, number: signal.Signals) -> None:
    up.script("fast", stream(_WORDS, delay=0.05))
    local = number is signal.SIGTERM
    settings = {
        "local": {"enabled": local},
        "providers": {"up": {"kind": "openai_compatible", "base_url": up.base_url}},
        "models": {"fast": {"provider": "up", "upstream_model": "fast"}},
    }
    with Installation(folders / f"stop-{number}", settings, workers=2 if local else 1) as farthing:
        key = new_key(farthing, "acme")["key"]
        with OpenAI(base_url=farthing.base_url, api_key=key, max_retries=0, timeout=30) as client:
            chunks = client.chat.completions.create(model="fast", messages=[{"role": "user", "content": "Count."}], stream=True)
            text = next(chunks).choices[0].delta.content or ""
            os.kill(farthing.pid, number)
            eventually(lambda: _refuses(farthing), "a closed door")
            assert farthing.worker_pids()  # the stream is not over
            text += "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "".join(_WORDS)
        assert farthing.stop() == 0
    assert processes_of(farthing) == []
    assert not (farthing.data / "run.json").exists()
    assert list((farthing.data / "ledger").glob("*.jsonl")) == []
    assert "Traceback" not in farthing.log.read_text(encoding="utf-8")


def _refuses(farthing: Installation) -> bool:
    try:
        socket.create_connection(("127.0.0.1", farthing.port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False
