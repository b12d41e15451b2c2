"""SIGINT and SIGTERM, from the first line to the last: who hears them when.

Four states follow each other. At first a signal ends the program where it stands (`Signalled`); while a trigger is
being delivered it goes to the delivery, which knows what can be claimed; once the verdict is known it changes nothing;
and while the interpreter ends it is ignored. In every state it shortens the wait for somebody to read the answer.

With handlers of our own from the start, a container's PID 1 ends on SIGTERM too: the kernel drops a signal that PID 1
has left at its default (signal(7), pid_namespaces(7)).
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator
    from types import FrameType

_HEARD = (signal.SIGINT, signal.SIGTERM)
_ignored_from_start: set[int] = set()
_installed = False
_came = False


class Signalled(BaseException):
    """A signal came while nothing was on its way. A BaseException, so that no `except Exception` keeps it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def install() -> None:
    """Let a signal end the program where it stands. What the parent process had ignored (nohup) stays ignored."""
    global _installed, _came  # noqa: PLW0603 - signal handlers are the process's, and so are these
    if not _installed:
        _ignored_from_start.update(s for s in _HEARD if signal.getsignal(s) == signal.SIG_IGN)
        _installed = True
    _came = False
    _handle_with(_raise)


@contextmanager
def routed(loop: AbstractEventLoop, hear: Callable[[int], None]) -> Iterator[None]:
    """Hand signals to `hear`, called in `loop`, while the block runs; after it they change no status any more."""
    # Not the loop's own add_signal_handler: it would put the default back before the verdict is out.
    _handle_with(lambda signum, _: loop.call_soon_threadsafe(hear, signum))
    try:
        yield
    finally:
        settle()


def settle() -> None:
    """Let signals change no status from here on: the verdict is known."""
    _handle_with(lambda *_: None)


def came() -> bool:
    """Tell whether a signal came since `install`: then nobody who does not read is to be waited for."""
    return _came


def ignore() -> None:
    """Let signals change nothing from here on, while the interpreter ends.

    It takes handlers away on its way out, and the default would end the process with another status.
    """
    for signum in _HEARD:
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """Keep a signal until the block ends: what the block begins must be known before it can be undone."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread, and only there can handlers be changed
        return
    came: list[int] = []
    before = {signum: signal.getsignal(signum) for signum in _HEARD}
    _handle_with(lambda signum, _: came.append(signum))
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if came:
            signal.raise_signal(came[0])


def _handle_with(handler: Callable[[int, FrameType | None], object]) -> None:
    def hear(signum: int, frame: FrameType | None) -> None:
        global _came  # noqa: PLW0603 - likewise
        _came = True
        handler(signum, frame)

    for signum in _HEARD:
        if signum not in _ignored_from_start:
            signal.signal(signum, hear)


def _raise(signum: int, _: FrameType | None) -> None:
    raise Signalled(signum)
