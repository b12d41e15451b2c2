"""Make a test run the same however it was started: in the background, under nohup, with or without bytecode."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile

# What nohup and a shell without job control ignore for the programs that they start.
_IGNORED_BY_STARTERS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
# Names the folder to the processes of pytest-xdist.
_BYTECODE = "TEST_BYTECODE"


def catch_ignored_signals():
    """Catch the signals that were ignored when this process started, and do nothing about them.

    A child process inherits an ignored signal, but not a caught one, so that it begins as a program in the foreground.
    """
    for signum in _IGNORED_BY_STARTERS:
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, lambda *_: None)


def keep_bytecode_elsewhere(*, alone):
    """Let child processes write bytecode though PYTHONDONTWRITEBYTECODE is set, in a folder that goes with the run.

    Without it each start of the program takes half as long again. The processes of pytest-xdist share the folder, but
    do not load from it: there they would have to compile the libraries, too. `alone` says that this process starts
    none of them. Returns what removes the folder.
    """
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        return lambda: None
    folder = os.environ.get(_BYTECODE) or tempfile.mkdtemp(prefix="bytecode-")
    if alone:
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        del os.environ["PYTHONDONTWRITEBYTECODE"]
    if _BYTECODE in os.environ:
        return lambda: None
    os.environ[_BYTECODE] = folder
    return lambda: shutil.rmtree(folder, ignore_errors=True)
