"""Do something that test processes share: one at a time."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager


@contextmanager
def alone(path):
    """Keep every other test process that asks for the same file waiting while the block runs. Creates the file."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
