"""Clocks: a process whose clock is wrong."""

from __future__ import annotations

from functools import cache

from support.programs import program
from support.shell import do


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
