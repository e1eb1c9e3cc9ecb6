"""What a worker reads from its supervisor."""

from __future__ import annotations

import os

from farthing.orders import RETIRE
from farthing.worker_process import read_line


def test_a_word_that_follows_the_orders_at_once_is_left_for_whoever_watches() -> None:
    """A reload may retire a worker that is still loading its modules: both lines are in the pipe then."""
    reading, writing = os.pipe()
    line = b'{"settings":"' + b"x" * 5000 + b'"}\n'
    os.write(writing, line + RETIRE)
    assert read_line(reading) == line
    assert os.read(reading, 64) == RETIRE
    os.close(writing)
    assert read_line(reading) == b""
    os.close(reading)
