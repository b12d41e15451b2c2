"""Waiting for something to become true, for as long as only a hanging test would take."""

from __future__ import annotations

import time

_PATIENCE = 20.0
_POLL = 0.005


def until(condition):
    """Return once `condition()` holds."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(_POLL)
