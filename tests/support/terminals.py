"""A terminal of a chosen width as stdout or stderr, of this process or of the program in another."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from unittest.mock import patch

from support.processes import HANGS, PROGRAM

CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Is stdout while the block runs. Afterwards `seen` is all that was written, `lines` the same without controls."""

    def __init__(self, columns, encoding="utf-8", **environ):
        self._columns = columns
        self._encoding = encoding
        self._environ = {"TERM": "xterm", **environ}
        self._read = b""
        self._reader = threading.Thread(target=self._listen)

    def __enter__(self):
        self._ours, theirs = _open(self._columns)
        self._file = os.fdopen(theirs, "w", encoding=self._encoding)
        self._patches = [patch.object(sys, "stdout", self._file), patch.dict(os.environ, self._environ)]
        for each in self._patches:
            each.start()
        self._reader.start()
        return self

    def __exit__(self, *_):
        for each in reversed(self._patches):
            each.stop()
        self._file.close()
        self._reader.join()
        os.close(self._ours)

    @property
    def seen(self):
        return self._read.decode(self._encoding).replace("\r\n", "\n")

    @property
    def lines(self):
        return CONTROLS.sub("", self.seen).splitlines()

    def _listen(self):
        self._read = _read_all(self._ours)


def on_terminal(columns, stream, *argv, **environ):
    """Run the program with one stream a terminal of this width; its status, and what that and the other stream got."""
    ours, theirs = _open(columns)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: theirs}
    environ = {**os.environ, "TERM": "xterm", **environ}
    with subprocess.Popen([*PROGRAM, *argv], env=environ, stdin=subprocess.DEVNULL, **streams) as process:
        os.close(theirs)
        seen = _read_all(ours)
        os.close(ours)
        other = "".join(said.decode() for said in process.communicate(timeout=HANGS) if said)
    return process.returncode, seen.decode(), other


def _open(columns):
    """The two sides of a new terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    return ours, theirs


def _read_all(ours):
    """All that a terminal gets until its other side is closed, which Linux tells by an error."""
    seen = b""
    try:
        while chunk := os.read(ours, 4096):
            seen += chunk
    except OSError:
        pass
    return seen
