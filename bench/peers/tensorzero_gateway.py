"""Run TensorZero's HTTP gateway out of its Python package, which ships no server command: `python tensorzero_gateway.py CONFIG`.

Prints its base URL on one line when it listens, then stays until it is told to stop. Runs in TensorZero's own environment.
`_start_http_gateway` is private: this script belongs to the version pinned in `bench/peers.sh`.
"""

from __future__ import annotations

import signal
import sys

from tensorzero import tensorzero  # type: ignore[import-not-found]  # lives in bench/.peers/tensorzero only


def main() -> None:
    gateway = tensorzero._start_http_gateway(  # noqa: SLF001 the package has no public way
        config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=False
    )
    print(gateway.base_url, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    gateway.close()


if __name__ == "__main__":
    main()
