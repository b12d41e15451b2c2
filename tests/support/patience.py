"""Waiting for something to become true, for as long as only a hanging test would take."""

from __future__ import annotations

import time

PATIENCE = 20.0
_POLL = 0.005


def until(condition, what="it", seconds=PATIENCE):
    """Return what `condition()` returns as soon as that is true; an error that names `what` after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(_POLL)
    return found
