"""`listen` in a process of its own, its lines read one by one."""

from __future__ import annotations

import queue
import threading

from support.patience import PATIENCE
from support.processes import HANGS, Process


class Listening:
    """`listen`, running while the block does, unless it ends before."""

    def __init__(self, *argv, **settings):
        self.process = Process("listen", *argv, **settings)
        self._lines = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.popen.poll() is None:
            self.process.popen.kill()
        self._reader.join(HANGS)
        self.process.kill()

    def line(self):
        """The next line, without its end; None after the last one."""
        return self._lines.get(timeout=PATIENCE)

    def end(self):
        """Wait for the end; the status and what was said on stderr."""
        status = self.process.popen.wait(HANGS)
        return status, self.process.popen.stderr.read()

    def _read(self):
        for line in self.process.popen.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


def told(err):
    """How many connections `listen` says it has lost, each told once and its successor, too; and what else it says."""
    lost, again = "crypto-trigger: warning: listening is interrupted: ", "crypto-trigger: warning: listening again on "
    lines = err.splitlines(keepends=True)
    found = [line for line in lines if line.startswith((lost, again))]
    for number, line in enumerate(found):
        assert line.startswith(again if number % 2 else lost), err
    return (len(found) + 1) // 2, "".join(line for line in lines if line not in found)
