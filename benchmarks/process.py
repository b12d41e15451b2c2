"""One child process, measured whole by the operating system: wall time, CPU time, peak memory, exit status."""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LONGEST = 120.0


class Cost(NamedTuple):
    """What one run cost: milliseconds and MB, the exit status (-1: killed for taking too long), and its stderr."""

    wall: float
    cpu: float
    rss: float
    status: int
    said: str = ""


class Running(NamedTuple):
    """A process that was started, and when."""

    pid: int
    since: float


def start(argv: Sequence[str], env: Mapping[str, str], stderr: str = os.devnull) -> Running:
    """Start a process with no shell in between; its stdout goes nowhere."""
    out = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    error = (os.POSIX_SPAWN_OPEN, 2, stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    since = time.monotonic()
    return Running(os.posix_spawn(argv[0], argv, env, file_actions=[nothing, out, error]), since)


def wait(running: Running, longest: float = _LONGEST) -> Cost:
    """Wait for the end of a process, or end it after `longest` seconds."""
    descriptor = os.pidfd_open(running.pid)
    killed = False
    try:
        left = running.since + longest - time.monotonic()
        if not select.select([descriptor], [], [], max(0.0, left))[0]:
            os.kill(running.pid, signal.SIGKILL)
            killed = True
        _, status, usage = os.wait4(running.pid, 0)
    finally:
        os.close(descriptor)
    wall = time.monotonic() - running.since
    status = -1 if killed else os.waitstatus_to_exitcode(status)
    return Cost(wall * 1000, (usage.ru_utime + usage.ru_stime) * 1000, usage.ru_maxrss / 1024, status)


def run(argv: Sequence[str], env: Mapping[str, str], longest: float = _LONGEST) -> Cost:
    """Run a process to its end and return what it cost."""
    cost = wait(start(argv, env, "stderr"), longest)
    return cost._replace(said=Path("stderr").read_text(errors="replace"))
