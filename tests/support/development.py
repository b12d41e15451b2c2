"""The development server, `demo --stay`, in a process of its own."""

from __future__ import annotations

import os
import queue
import signal
import threading

from support.processes import HANGS, PROGRAM, Process
from support.traces import children


class Development:
    """`demo --stay` in a process of its own, its stdout read line by line."""

    def __init__(self, port, command=PROGRAM):
        self.process = Process("demo", "--stay", "--port", port, command=command)
        self.lines = queue.Queue()
        self.said = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.popen.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def until(self, words):
        """The first line to come that holds `words`."""
        while (line := self.lines.get(timeout=HANGS)) is not None:
            self.said.append(line)
            if words in line:
                return line
        raise AssertionError(f"it ended without saying {words}: {self.said}")

    def stop(self, signum):
        """Send a signal; the status, the last line of stdout, and stderr."""
        self.process.signal(signum)
        status = self.process.popen.wait(HANGS)
        self.until("stopped")
        return status, self.said[-1], self.process.popen.stderr.read()

    def close(self):
        """Close its streams, and end what a failed test has left running."""
        left = children(self.process.popen.pid) if self.process.popen.poll() is None else []
        if left:
            self.process.popen.kill()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.reader.join(HANGS)
        self.process.kill()
