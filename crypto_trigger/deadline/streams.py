"""Write to stdout, stderr or another descriptor with a time limit, because the other end may not be read."""

from __future__ import annotations

import os
import time
from select import POLLERR, POLLHUP, POLLOUT, poll
from threading import Thread
from typing import TYPE_CHECKING

from crypto_trigger.deadline import signals

if TYPE_CHECKING:
    from typing import TextIO

# The shortest wait for a reader, in seconds. It also applies past the deadline and after a signal.
LEAST = 0.3
# How often a wait checks whether a signal came, in seconds.
_POLL_SECONDS = 0.05


class Writer:
    """Writes to one of the process's text streams. Nothing is written if the stream is None.

    A stream without a descriptor (one that a test puts in place of stdout) is written to directly, without a limit.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.encoding = getattr(stream, "encoding", None) or "utf-8"
        self._sending: _Sending | None = None
        try:
            self._descriptor = None if stream is None else stream.fileno()
        except (AttributeError, OSError, ValueError):
            self._descriptor = None

    @property
    def is_terminal(self) -> bool:
        """Whether the stream is a terminal."""
        return self.stream is not None and self.stream.isatty()

    @property
    def width(self) -> int | None:
        """The number of columns of the terminal, or None if the stream is not a terminal."""
        if self._descriptor is None or not self.is_terminal:
            return None
        try:
            return os.get_terminal_size(self._descriptor).columns or 80
        except OSError:
            return 80

    @property
    def is_busy(self) -> bool:
        """Whether an earlier text still waits for a reader."""
        return self._sending is not None and self._sending.is_alive()

    @property
    def is_closed(self) -> bool:
        """Whether the other end is closed: no process has the reading end of the pipe, or the terminal is gone."""
        if self.stream is None or self._descriptor is None:
            return False
        asked = poll()
        asked.register(self._descriptor, 0)
        return any(events & (POLLERR | POLLHUP) for _, events in asked.poll(0))

    def takes(self, text: str) -> bool:
        """Tell whether the stream's encoding can encode `text`."""
        try:
            text.encode(self.encoding)
        except UnicodeError:
            return False
        return True

    def write(self, text: str, seconds: float) -> None:
        """Write `text`, waiting at most `seconds` for a reader; a character that the encoding lacks is escaped.

        Raises TimeoutError if a part is not written by then. That part is still written in the background: the next
        text waits for it, and is dropped if that takes too long. Raises OSError or ValueError if the stream cannot be
        written to.
        """
        if self.stream is None:
            return
        data = text.encode(self.encoding, "backslashreplace")
        if self._descriptor is None:
            self.stream.write(data.decode(self.encoding))
            self.stream.flush()
            return
        until = time.monotonic() + seconds
        if self._sending is not None:
            self._sending.wait(seconds)
        self._sending = _Sending(self._descriptor, data)
        self._sending.begin()
        self._sending.wait(until - time.monotonic())
        self._sending = None

    def abandon(self) -> None:
        """Discard what is written from now on."""
        if self._descriptor is not None:
            try:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._descriptor)
                os.close(nowhere)
            except OSError:
                pass  # no descriptor is left: there is nothing to be done, and the interpreter reports nothing at exit
        self.stream = None


def send(descriptor: int, data: bytes, seconds: float) -> None:
    """Write `data` to a descriptor, waiting at most `seconds` for a reader. Raises TimeoutError, or another OSError."""
    sending = _Sending(descriptor, data)
    sending.begin()
    sending.wait(seconds)


class _Sending(Thread):
    """A write in its own thread, so that the caller can stop waiting for it.

    O_NONBLOCK cannot be used: it is set for the open file description, which other processes share (open(2)). poll(2)
    alone is not enough: another process may fill the pipe before the write, and a terminal may take only a part of it.
    """

    def __init__(self, descriptor: int, data: bytes) -> None:
        super().__init__(daemon=True)
        self._descriptor = descriptor
        self._data = data
        self._error: OSError | OverflowError | None = None

    def begin(self) -> None:
        try:
            self.start()
        except RuntimeError:  # the system has no thread left for us
            self.run()

    def run(self) -> None:
        left = memoryview(self._data)
        try:
            while left:
                try:
                    left = left[os.write(self._descriptor, left) :]
                except BlockingIOError:  # another process set O_NONBLOCK
                    ready = poll()
                    ready.register(self._descriptor, POLLOUT)
                    ready.poll()
        except (OSError, OverflowError) as error:  # the second: a number that no descriptor has
            self._error = error

    def wait(self, seconds: float) -> None:
        """Return once all is written. Raises TimeoutError after `seconds`, OSError if the write failed.

        After a signal the wait ends after `LEAST` seconds.
        """
        began = time.monotonic()
        while self.is_alive():
            limit = min(seconds, LEAST) if signals.came() else seconds
            left = began + limit - time.monotonic()
            if left <= 0:
                raise TimeoutError("nobody reads it")
            self.join(min(left, _POLL_SECONDS))
        if self._error:
            raise self._error
