"""Cut a connection after each byte of an exchange, in parts that can run side by side."""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

import pytest

from support.programs import ALL
from support.proxy import Recorded, payload_size

_PARTS = 8
# A test with this mark gets the `part` of the bytes that it is to try: every eighth, so that each part meets each step.
in_parts = pytest.mark.parametrize("part", range(_PARTS))
# A line or payload is long from twice this on; so many bytes at each end of it are not its middle.
_END = 8
# One in so many bytes of the middle is tried.
_SAMPLE = 32


class Sweep(NamedTuple):
    """How many bytes the exchange has at least, and the status of each trial."""

    length: int
    statuses: list[int]


def each_byte(cut_after, trial, way, part):
    """Call `trial` with what `cut_after(n)` returns, for every n of this part, until the exchange ends before the cut.

    `trial` returns the status of its run. Nothing cuts the first two and the last one, which must end 0. The reader of
    a line or payload does nothing before its end. So of the bytes in the middle of a long one, one in 32 is taken,
    unless CRYPTO_TRIGGER_TEST_ALL=1 asks for all.
    """
    recorded = _recorded(trial, way)
    middles = [] if ALL else _middles(recorded)
    statuses = []
    for after in count(part, _PARTS):
        if any(after in middle for middle in middles) and after // _PARTS % _SAMPLE:
            continue
        cut = cut_after(after)
        statuses.append(trial(cut))
        if not cut.struck:
            assert statuses[-1] == 0, "an exchange that nothing cut"
            return Sweep(after, statuses)
    raise AssertionError


def _recorded(trial, way):
    """Return what an exchange carries in this way: the second one, because before the first nothing is stored."""
    for _ in range(2):
        whole = Recorded(way)
        assert trial(whole) == 0, "an exchange that nothing cut"
    return whole.data


def _middles(data):
    """The positions in the middle of each long line and payload, as ranges."""
    middles, begin, size = [], 0, None
    while begin < len(data):
        if size is None:
            line = data[begin:].partition(b"\r\n")[0]
            length, size = len(line), payload_size(line)
        else:
            length, size = size, None
        middles.append(range(begin + _END, begin + length - _END))
        begin += length + 2
    return middles
