"""`farthing reload`."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from pathlib import Path

from farthing.cli.options import DataOption, JsonOption, SettingsOption, read_settings
from farthing.errors import SettingsError, Unavailable
from farthing.supervisor_reload import Outcome, read_outcome

_POLL_S = 0.05
_SLACK_S = 60.0
"""Beyond `server.ready_s` and the grace of workers that an earlier reload has replaced."""


def reload(
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
    data: DataOption = None,
    settings: SettingsOption = None,
) -> None:
    """Have a running Farthing read its settings anew, without losing a request. Waits until the new workers are at work."""
    effective = read_settings(settings, data)
    pid = _supervisor(effective.data)
    sent = time.time()
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise Unavailable(f"the process {pid} cannot be told to reload: {error.strerror}") from None
    outcome = _wait(effective.data, sent, effective.server.ready_s + effective.server.drain_s + _SLACK_S)
    if not outcome.ok:
        raise SettingsError(f"not reloaded, the old settings stay in force: {outcome.message}")
    if as_json:
        print(json.dumps({"reloaded": True, "waiting": outcome.waiting}))
        return
    print(f"reloaded: {outcome.message}")
    if outcome.waiting:
        print(f"these wait for a restart: {', '.join(outcome.waiting)}")


def _supervisor(data: Path) -> int:
    """The process of the `farthing up` on this folder. Its lock says that it lives: a number in a file could be anybody's by now."""
    try:
        with (data / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            return int(json.loads((data / "run.json").read_text(encoding="utf-8"))["pid"])
        except (OSError, ValueError, KeyError):
            raise Unavailable(f"Farthing on {data} is still starting: try again") from None
    except OSError:
        pass
    raise Unavailable(f"Farthing is not running on {data}: start it with `farthing up`, or name its folder with --data")


def _wait(data: Path, sent: float, seconds: float) -> Outcome:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        outcome = read_outcome(data)
        if outcome is not None and outcome.began >= sent:
            return outcome
        time.sleep(_POLL_S)
    raise Unavailable(f"Farthing on {data} did not answer within {seconds:.0f} s; see its log")
