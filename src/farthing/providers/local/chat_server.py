"""The process that runs the local chat model: llama.cpp's OpenAI-compatible server, on the loopback interface only.

    FARTHING_LOCAL_CHAT_KEY=… python -P -m farthing.providers.local.chat_server --model FILE --alias NAME --port P …

It is a process of its own so that a crash in native code, or its memory, is never the gateway's. It ends with exit status 0 on SIGTERM
or SIGINT, 1 when the engine cannot start, 2 when it is called wrongly, and is killed when its parent dies. The key comes in the
environment because arguments are visible to every user of the machine.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEY_VARIABLE = "FARTHING_LOCAL_CHAT_KEY"

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_STOP = (signal.SIGTERM, signal.SIGINT)
_ERRORS_ONLY = 1  # llama.cpp: 1 error, 2 warning, 3 info
_PARENT_CHECK_S = 1.0
_SPARE_HTTP_THREADS = 4


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns the exit status."""
    options = _parse(argv)
    key = os.environ.pop(KEY_VARIABLE, "")
    if not key:
        return _complain(f"{KEY_VARIABLE} is not set", status=2)
    # Blocked before the engine starts its threads, which inherit the mask: the signals wait for `_wait_for_end` and reach nobody else.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    _die_with_parent()
    if os.getppid() != options.parent:
        return _complain("the parent is gone", status=1)
    try:
        server = _serve(options, key)
    except Exception as error:  # noqa: BLE001 - the engine raises bare RuntimeErrors; whatever it is, the supervisor reads it in the log
        return _complain(f"the engine did not start: {error}", status=1)
    _wait_for_end(options.parent)
    # Past the engine's destructor: it waits for generations under way and has been seen to hang. The system takes back all that it holds.
    sys.stderr.flush()
    os._exit(0 if server is not None else 1)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="farthing.providers.local.chat_server", description="Serve the local chat model.")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--alias", required=True, help="name of the model in answers")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1, reserved by the parent with SO_REUSEPORT")
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor; when it dies, so does this process")
    parser.add_argument("--parallel", type=int, default=2, help="requests answered at the same time; more wait")
    parser.add_argument("--ctx-size", type=int, default=4096, help="tokens of context of each parallel request")
    parser.add_argument("--threads", type=int, default=2, help="computing threads")
    parser.add_argument("--connections", type=int, default=64, help="connections served at the same time, waiting and idle ones included")
    return parser.parse_args(argv)


def _serve(options: argparse.Namespace, key: str) -> Any:
    """Start the engine and its listener; both run in threads of their own."""
    import xllamacpp  # noqa: PLC0415 - 100 MB of native code: only this process loads it

    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.reuse_port = True
    params.api_keys = [key]
    params.cors_origins = ""  # no web page talks to this server
    params.ui = False
    params.offline = True
    params.endpoint_slots = False
    params.verbosity = _ERRORS_ONLY
    params.n_parallel = options.parallel
    params.n_ctx = options.parallel * options.ctx_size  # the engine divides it among the slots
    params.n_batch = 512
    params.n_ubatch = 128
    params.cache_ram_mib = 0  # the default keeps up to 8 GiB of old prompts
    params.n_ctx_checkpoints = 0
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    # Each connection holds a thread, idle and queued ones too, and the health check must always find one.
    params.n_threads_http = options.connections + _SPARE_HTTP_THREADS
    return xllamacpp.Server(params)


def _die_with_parent() -> None:
    """Ask Linux for SIGKILL at the death of the thread that started us (prctl(2)); elsewhere `_wait_for_end` notices within a second."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _wait_for_end(parent: int) -> None:
    while os.getppid() == parent and signal.sigtimedwait(_STOP, _PARENT_CHECK_S) is None:
        pass


def _complain(message: str, *, status: int) -> int:
    sys.stderr.write(f"farthing local chat server: {message}\n")
    return status


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)
