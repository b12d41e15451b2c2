"""Make a test run the same however it was started: in the background, under nohup, with or without bytecode."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

# What nohup and a shell without job control ignore for the programs that they start.
_IGNORED_BY_STARTERS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


def catch_ignored_signals():
    """Catch the signals that were ignored when this process started, and do nothing about them.

    A child process inherits an ignored signal, but not a caught one, so that it begins as a program in the foreground.
    """
    for signum in _IGNORED_BY_STARTERS:
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)


def keep_bytecode_elsewhere():
    """Let child processes write bytecode though PYTHONDONTWRITEBYTECODE is set, in a folder that goes with the run.

    Without it each start of the program takes half as long again. Returns what removes the folder.
    """
    if not os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        return lambda: None
    folder = tempfile.mkdtemp(prefix="bytecode-")
    os.environ["PYTHONPYCACHEPREFIX"] = folder
    return lambda: shutil.rmtree(folder, ignore_errors=True)
