"""The file of `check --on-change`: the result that was printed last, and when: `CRITICAL 2026-11-23T18:07:02Z`."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text.

import os
import time
from datetime import datetime, timedelta
from typing import NamedTuple

from crypto_trigger.deadline import files
from crypto_trigger.deadline.files import own_descriptor
from crypto_trigger.monitoring.verdict import Level
from crypto_trigger.settings import values
from crypto_trigger.slots import times

# A result that is not OK is printed again after this time.
_AGAIN = timedelta(days=1)


class Printed(NamedTuple):
    """A result that was printed, and when, by the clock of this host."""

    level: Level
    at: datetime

    def covers(self, level: Level, now: datetime) -> bool:
        """Tell whether `level` need not be printed: it is the same, and OK or printed within the last day."""
        # A time in the future is of a clock that was wrong.
        return level is self.level and (level is Level.OK or timedelta(0) <= now - self.at < _AGAIN)


def read(path: str, now: datetime) -> Printed | None:
    """Return what a file says, or None if it cannot be read or says something else. A file that is missing says OK."""
    try:
        path = values.path(path)
        if not os.path.exists(path):  # noqa: PTH110 - a Path refuses NUL
            return Printed(Level.OK, now)
        level, at = files.read_text(path, time.monotonic()).split()
        return Printed(Level[level], times.instant(at))
    except (ValueError, KeyError):
        return None


def write(path: str, printed: Printed) -> str:
    """Replace the file in one step. Return what went wrong, or an empty text."""
    try:
        if own_descriptor(values.path(path)) is not None:
            return "it is where this run writes its output"
        files.replace(values.path(path), f"{printed.level.name} {times.rfc3339(printed.at)}\n".encode())
    except (ValueError, OSError) as error:
        return files.reason(error)
    return ""
