"""The program as a process: started, signalled, and ended with nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from support.forks import Fork, forkable

PROGRAM = (sys.executable, "-m", "crypto_trigger")
# No run of these tests is meant to last as long as this; one that does hangs.
HANGS = 30.0
# What libfaketime keeps for each process. One that ends by a signal or by os._exit, as the program does, leaves it.
_CLOCKS = ("/dev/shm/sem.faketime_sem", "/dev/shm/faketime_shm")


class Timed(NamedTuple):
    """How a process ended, and how many seconds after its first signal, or after its start if it got none."""

    status: int
    out: str
    err: str
    seconds: float


class Process:
    """The program, running in a process group of its own. Settings are environment variables."""

    def __init__(self, *argv, command=PROGRAM, pass_fds=(), **settings):
        self._signalled, self._since = False, time.monotonic()
        argv = [str(argument) for argument in argv]
        environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
        if command is PROGRAM and not pass_fds and forkable(environment):
            self.popen = Fork(argv, environment)
            # The first one has waited for the fork server, which loads the libraries.
            self._since = time.monotonic()
            return
        self.popen = subprocess.Popen(
            [*command, *argv],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            pass_fds=pass_fds,
        )

    def signal(self, signum):
        if not self._signalled:
            self._signalled, self._since = True, time.monotonic()
        self.popen.send_signal(signum)

    def end(self):
        """Wait for the end, which must come by itself and leave no process behind."""
        try:
            out, err = self.popen.communicate(timeout=HANGS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        seconds = time.monotonic() - self._since
        left = _group_exists(self.popen.pid)
        self.kill()
        assert not left, "a process of the program's is left running"
        return Timed(self.popen.returncode, out, err, seconds)

    def kill(self):
        """End whatever is left of the process's own group."""
        if _group_exists(self.popen.pid):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.communicate()
        # `faketime` fails where something is left of an earlier process with its pid.
        for clock in _CLOCKS:
            Path(f"{clock}_{self.popen.pid}").unlink(missing_ok=True)


def execute(*argv, **settings):
    """Run the program to its end."""
    return Process(*argv, **settings).end()


def beginning_with(folder, code):
    """Have a child process run this code before the program; returns the setting that does it."""
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def freeze(process):
    """Stop a child process (SIGSTOP); returns when it has stopped. SIGCONT lets it go on."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


def is_one_clean_line(text):
    """Whether a text is one line that a terminal shows as it is, and no traceback."""
    return text.endswith("\n") and text[:-1].isprintable() and "Traceback" not in text


def _group_exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
