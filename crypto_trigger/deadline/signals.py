"""SIGINT and SIGTERM: what they do in each phase of the process.

There are four phases. At first a signal ends the program at once (`Signalled`). While a trigger is being delivered, the
signal goes to the delivery, which knows whether the trigger may be stored. Once the result is known, a signal does not
change the exit status. While the interpreter exits, signals are ignored. In the first three phases a signal also
shortens the wait for a reader of the output.

The handlers are installed from the start. So SIGTERM also ends a process that is PID 1 of a container: the kernel drops
a signal for which PID 1 has no handler (signal(7), pid_namespaces(7)).
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
_came = 0  # the number of the first signal since `install`
_count = 0  # how many signals came


class Signalled(BaseException):
    """A signal came while nothing was being sent. A BaseException, so that no `except Exception` catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def install() -> None:
    """Let a signal end the program at once. A signal that the parent process ignored (nohup) stays ignored."""
    global _installed, _came  # noqa: PLW0603 - signal handlers are global to the process, too
    if not _installed:
        _ignored_from_start.update(s for s in _HEARD if signal.getsignal(s) == signal.SIG_IGN)
        _installed = True
    _came = 0
    _handle_with(_raise)


def resume() -> None:
    """Let a signal end the program at once again, after `settle`. One that came since `install` ends it now."""
    came = _came
    install()
    if came:
        raise Signalled(came)


@contextmanager
def routed(loop: AbstractEventLoop, hear: Callable[[int], None]) -> Iterator[None]:
    """Pass signals to `hear`, called in `loop`, while the block runs, also one that came before since `postpone`.

    After the block, signals do not change the exit status.
    """
    # The loop's add_signal_handler is not used: it would restore the default before the result is printed.
    _handle_with(lambda signum, _: loop.call_soon_threadsafe(hear, signum))
    if _came:
        loop.call_soon(hear, _came)
    try:
        yield
    finally:
        settle()


def postpone() -> None:
    """From now on, a signal is only noted, until `routed` passes it on: an exception would end the loop's set-up."""
    _handle_with(lambda *_: None)


def settle() -> None:
    """From now on, signals do not change the exit status: the result is known."""
    _handle_with(lambda *_: None)


def came() -> bool:
    """Tell whether a signal came since `install`: if so, output does not wait for a slow reader."""
    return bool(_came)


def count() -> int:
    """Return how many signals came so far, to tell a new one from those before."""
    return _count


def ignore() -> None:
    """Ignore signals from now on, while the interpreter exits.

    The interpreter removes handlers when it exits, and the default action would change the exit status.
    """
    for signum in _HEARD:
        signal.signal(signum, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """Hold a signal back until the block ends, so that what the block starts is recorded and can be cleaned up."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread, and only that thread can set them
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
        global _came, _count  # noqa: PLW0603 - as above
        _came = _came or signum
        _count += 1
        handler(signum, frame)

    for signum in _HEARD:
        if signum not in _ignored_from_start:
            signal.signal(signum, hear)


def _raise(signum: int, _: FrameType | None) -> None:
    # Once: a second one, while the first ends the program, would end it with a traceback.
    postpone()
    raise Signalled(signum)
