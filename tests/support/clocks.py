"""Clocks: a process whose clock is wrong, and slots whose ends come when a test wants them to."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

from support.programs import program
from support.shell import do

# Ahead and behind: by a little more than the usual slot, by hours, by a day.
OFFSETS = {
    "an hour ahead": timedelta(hours=1),
    "an hour behind": timedelta(hours=-1),
    "16 minutes ahead": timedelta(minutes=16),
    "16 minutes behind": timedelta(minutes=-16),
    "a day ahead": timedelta(days=1),
    "a day behind": timedelta(days=-1),
}
# How long before a slot a run belongs to it, and how far two clocks may differ before a run warns, in seconds.
EARLY = 1
_UNITS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"(\d+(?:\.\d+)?)(ms|[wdhms])"


@cache
def _library():
    """The path of libfaketime, as Debian's `faketime` program finds it."""
    return do(program("faketime"), "-f", "+0s", "printenv", "LD_PRELOAD").out.strip()


def clock(offset):
    """Settings that put a process's clock ahead or behind; its timers run as they should."""
    return {
        "LD_PRELOAD": _library(),
        "FAKETIME": f"{offset.total_seconds():+.0f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Not of the real file's time: Python's cache of compiled modules is looked up by it.
        "NO_FAKE_STAT": "1",
    }


def durations(text):
    """Every duration in a text, in seconds: `1h0m3.2s`, `2m`."""
    return [
        sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, whole.group()))
        for whole in re.finditer(rf"(?<![\w.])(?:{_PART})+(?!\w)", text)
    ]


class Slots(NamedTuple):
    """Slots of whole seconds (`every`), and a moment at which one ends (`turn`), all in seconds since the epoch.

    A run may come a second early.
    """

    every: int
    turn: int

    @property
    def settings(self):
        """Settings that take these slots."""
        return {"CRYPTO_TRIGGER_EVERY": f"{self.every}s", "CRYPTO_TRIGGER_EARLY": f"{EARLY}s"}

    def of(self, moment):
        """The start of the slot that a run of this moment stands for, as messages and reports write it."""
        seconds = int(moment.timestamp() + EARLY)
        return rfc3339(seconds // self.every * self.every)

    def now(self):
        """The start of the present slot."""
        return self.of(datetime.now(UTC))

    @property
    def next(self):
        """The start of the slot that begins at the turn."""
        return rfc3339(self.turn)

    def wait(self):
        """Return when the next slot has begun, which the passing of time alone brings."""
        while (left := self.turn + 0.01 - time.time()) > 0:
            time.sleep(left)


def roomy(longest=900):
    """Slots of at most `longest` seconds, of which the present one began a while ago and lasts a while."""
    now = time.time()
    for every in range(longest, longest // 2, -1):
        if min(now % every, every - now % every) > longest / 10:
            return Slots(every, int(now // every + 1) * every)
    raise AssertionError("no such slot")


def turning(seconds, longest=900, shortest=60):
    """Slots of at most `longest` seconds, of which the present one ends in `seconds` or a little later.

    They are longer than `shortest`: the closer the two, the later the end may be.
    """
    first = int(time.time() + seconds) + 1
    for turn in range(first, first + 60):
        for every in range(longest, shortest, -1):
            if turn % every == 0:
                return Slots(every, turn)
    raise AssertionError("no such slot")


def rfc3339(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
