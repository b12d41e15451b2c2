"""Debian's faketime, which gives a process a wrong clock: its clock is off, its timers and our clock are not."""

import json
import os
import sys
import time
from datetime import timedelta

import pytest
from support.clocks import clock
from support.shell import do

LOOK = "import json, time; print(json.dumps([time.time(), time.monotonic()]))"


@pytest.mark.parametrize("offset", [timedelta(hours=1), timedelta(days=-1)], ids=["ahead", "behind"])
def test_a_child_s_clock_is_off_and_ours_is_not(offset):
    before = time.time(), time.monotonic()
    ended = do(sys.executable, "-c", LOOK, env={**os.environ, **clock(offset)})
    after = time.time(), time.monotonic()
    assert (ended.status, ended.err) == (0, "")
    seen, monotonic = json.loads(ended.out)
    # The offset is in whole seconds of the moment at which the process began.
    assert before[0] - 1 <= seen - offset.total_seconds() <= after[0] + 1
    assert before[1] <= monotonic <= after[1]
    assert after[0] - before[0] < 60
