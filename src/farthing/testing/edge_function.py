"""The function at the edge (`deploy/aws/edge/function.js`) on this machine, under Node, and tokens for it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

_RUNNER = Path(__file__).with_suffix(".mjs")
_TIMEOUT_S = 60


def played(function: Path, cases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What came of each case: `out`, what the function returned; `origin`, which one it chose; and how many `reads` it took.

    A case has `name`, `now_ms`, the `values` of the store, and a `request` with `method`, `uri`, `headers`, `cookie` (None: no
    cookie), and `query`, if any.
    Raises RuntimeError without Node.
    """
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("node is needed to run the function of the edge: apt-get install nodejs")
    with tempfile.NamedTemporaryFile(prefix="edge-cases-", suffix=".json") as file:
        file.write(msgspec.json.encode(cases))
        file.flush()
        command = [node, str(_RUNNER), str(function), file.name]
        ran = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - the function of this repository
    if ran.returncode != 0:
        raise RuntimeError(f"the function did not run: {ran.stderr.decode(errors='replace')[-4000:]}")
    results: list[dict[str, Any]] = msgspec.json.decode(ran.stdout)
    return results


def token(claims: Mapping[str, Any], *, key: str, **head: Any) -> str:
    """A JWT with some claims (`tenant`, `sub`, `exp`), signed with HS256 whatever its head says. `kid` names the key."""
    signed = ".".join(_base64url(msgspec.json.encode(part)) for part in ({"alg": "HS256", "typ": "JWT", **head}, claims))
    return f"{signed}.{_base64url(hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest())}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
