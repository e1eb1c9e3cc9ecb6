"""Talking to a running installation: its address and admin key are in the data folder."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from farthing.errors import FarthingError, Unavailable

_TIMEOUT_S = 30


def call(data: Path, method: str, path: str, body: object | None = None) -> Any:
    """One admin request. Raises `FarthingError` with the server's message."""
    try:
        url = json.loads((data / "run.json").read_text(encoding="utf-8"))["url"]
        key = (data / "admin.key").read_text(encoding="utf-8").strip()
    except (OSError, ValueError, KeyError):
        raise Unavailable(f"Farthing is not running on {data}: start it with `farthing up`, or name its folder with --data") from None
    request = urllib.request.Request(  # noqa: S310 - the address is our own
        url + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        raise FarthingError(_message(error)) from None
    except (OSError, ValueError) as error:
        raise Unavailable(f"Farthing does not answer at {url}: {error}") from None


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the server answered status {error.code}"
