"""A terminal of a chosen width in place of this process's stdout."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
from unittest.mock import patch

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
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, self._columns, 0, 0))
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
        # Linux ends a terminal whose other side is gone with an error.
        try:
            while chunk := os.read(self._ours, 4096):
                self._read += chunk
        except OSError:
            pass
