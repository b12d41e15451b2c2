"""Cut a connection after each byte of an exchange, in parts that can run side by side."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

import pytest

_PARTS = 8
# A test with this mark is given its `part` of the bytes: one in eight, so that every part meets every step.
in_parts = pytest.mark.parametrize("part", range(_PARTS))


class Sweep(NamedTuple):
    """How many bytes the exchange has at least, and the status of each trial."""

    length: int
    statuses: list[int]


# The middle of the server's greeting, one long line.
GREETING = range(64, 384)


def each_byte(cut_after, trial, part, alike=()):
    """Call `trial` with what `cut_after(n)` returns, for every n of this part, until the exchange ends before the cut.

    `trial` returns the status of its run. Nothing cuts the last one, which must end 0. Of the bytes `alike`, ranges in
    the middle of long lines, one in eight is taken.
    """
    statuses = []
    with _collector_at_rest():
        for after in count(part, _PARTS):
            if any(after in stretch for stretch in alike) and after // _PARTS % _PARTS:
                continue
            cut = cut_after(after)
            statuses.append(trial(cut))
            if not cut.struck:
                assert statuses[-1] == 0, "an exchange that nothing cut"
                return Sweep(after, statuses)
    raise AssertionError


@contextmanager
def _collector_at_rest():
    """Collect garbage once at the end: the program itself runs without a collector, and pytest's heap is large."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()
