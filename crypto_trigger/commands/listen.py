"""Listen: print each trigger as it arrives, over one connection after another, until something ends it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crypto_trigger.deadline.retry import GaveUp, Limits, Retry
from crypto_trigger.errors import BrokerError, Interrupted, Unavailable
from crypto_trigger.settings.masking import escaped, masked
from crypto_trigger.slots.times import approximate, format_duration, rfc3339_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.delivery.choice import Source
    from crypto_trigger.reporting.terminal import Output
    from crypto_trigger.slots.arrival import Arrival

# How often to look whether the reader of the lines has taken the last one, or is gone, in seconds.
_POLL_SECONDS = 0.05
_READER_SECONDS = 0.25
# The longest time that an interpreter takes to start, in seconds. Beyond it, the system's clocks contradict each other.
_LONGEST_START = 60.0


@dataclass(frozen=True)
class Bounds:
    """What ends a listener: a number of triggers, a length of time that began at `started` (`time.monotonic()`)."""

    count: int | None
    length: timedelta | None
    started: float


class Listener:
    """Prints the triggers of a source until its bounds, a signal or the end of the reader. For one `run`."""

    def __init__(
        self,
        source: Source,
        subject: str,
        bounds: Bounds,
        limits: Limits,
        output: Output,
        begun: Callable[[str], None],
    ) -> None:
        """Take what listens where, what ends it, and `begun`, which is told each time that it listens."""
        self._source = source
        self._subject = subject
        self._bounds = bounds
        self._output = output
        self._begun = begun
        self._retry = Retry(limits, output.waiting)
        self._arrived = 0
        self._listens = False
        self._has_listened = False
        self._lost_at: float | None = None

    async def run(self) -> None:
        """Listen until the end that was asked for.

        Raises Unavailable if the time ran out before, Interrupted after a signal if there was something to wait for,
        and the BrokerError for which there is no connection.
        """
        gc.enable()  # unlike other commands, this one may run for weeks
        bounds, loop = self._bounds, asyncio.get_running_loop()
        end = None
        if bounds.length is not None:
            end = loop.time() + bounds.started + bounds.length.total_seconds() - time.monotonic()
        try:
            async with asyncio.timeout_at(end) as limit:
                watch = loop.create_task(self._end_without_reader(limit))
                try:
                    await self._retry.run(self._session)
                finally:
                    watch.cancel()
        except TimeoutError:
            if not limit.expired():
                raise
            self._end_of_time()
        except GaveUp as gave_up:
            self._end_of_patience(gave_up)

    @property
    def _is_complete(self) -> bool:
        return self._bounds.count is not None and self._arrived >= self._bounds.count

    async def _session(self, attempt: Attempt) -> None:
        """Listen over one connection until there are enough triggers. Raises a BrokerError."""
        async with self._source.open(attempt) as messages:
            self._retry.lift()
            self._begin(messages.server)
            try:
                while not self._is_complete:
                    await self._show(await messages.next())
            except BrokerError as error:
                self._listens = False
                self._lost_at = time.monotonic()
                if error.retryable:
                    self._output.warn(f"listening is interrupted: {error.message}")
                raise

    def _begin(self, server: str) -> None:
        self._listens = self._has_listened = True
        where = f"on {self._subject} at {server}"
        if self._lost_at is None:
            self._begun(f"listening {where}")
        else:
            missed = "; what was published in that time is not shown" if self._source.misses else ""
            self._output.warn(f"listening again {where}, after {time.monotonic() - self._lost_at:.1f}s{missed}")

    async def _show(self, arrival: Arrival) -> None:
        """Print a trigger, and wait until the line is read. So no more messages are taken than are read."""
        self._arrived += 1
        self._output.line(arrival_line(arrival), arrival_data(arrival))
        while self._output.is_unread:  # noqa: ASYNC110 - a thread writes it, and the kernel tells nobody
            await asyncio.sleep(_POLL_SECONDS)

    async def _end_without_reader(self, limit: asyncio.Timeout) -> None:
        """End the listening as soon as the reader of the lines is gone: it wants no more of them."""
        while not self._output.has_no_reader:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(_READER_SECONDS)
        if not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())

    def _end_of_time(self) -> None:
        if self._is_complete:
            return
        if self._output.has_no_reader:
            if self._bounds.count is None:
                return
            raise Unavailable(f"nobody reads the lines any more; {self._progress()}")
        length = format_duration(self._bounds.length) if self._bounds.length else ""
        if not self._listens:
            last = self._retry.last
            what = f"{last.message}; " if last else ""
            raise Unavailable(
                f"{what}it was not connected when the time ({length}) was over", last.hint if last else ""
            )
        if self._bounds.count is not None:
            raise Unavailable(f"{self._progress()} in {length}", "does a scheduler publish?")

    def _end_of_patience(self, end: GaveUp) -> None:
        if not end.signum or not self._has_listened:
            raise end.error() from end.last
        if self._is_complete:
            return
        if self._bounds.count is not None or self._bounds.length is not None:
            name = signal.Signals(end.signum).name
            raise Interrupted(end.signum, f"interrupted by {name}; {self._progress()}")

    def _progress(self) -> str:
        """Return how many triggers have arrived, of how many."""
        asked = f" of {self._bounds.count}" if self._bounds.count is not None else ""
        plural = "" if (self._bounds.count or self._arrived) == 1 else "s"
        return f"{self._arrived}{asked} trigger{plural} arrived on {self._subject}"


def start_of_process(otherwise: float) -> float:
    """Return when this process was started, as a time of `time.monotonic()`; `otherwise` where that is not known.

    A trigger that is published right after `listen &` may be stored while the interpreter still starts.
    """
    with suppress(OSError, ValueError, IndexError, AttributeError):
        # Field 22 of proc(5) counts from the boot, in ticks of usually 10 ms, rounded down.
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]) + 1
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        started = time.monotonic() - age
        if otherwise - _LONGEST_START < started < otherwise:
            return started
    return otherwise


# How much of a payload a line shows, in characters; one of so many bytes is shown whole.
_SHOWN = 200


def arrival_line(arrival: Arrival) -> str:
    """Return a trigger that has arrived as one line for a person to read. A long payload is cut."""
    side = "before" if arrival.lateness < timedelta(0) else "after"
    when = f"{approximate(abs(arrival.lateness))} {side} its slot began"
    place = f"received {when}" if arrival.seq is None else f"sequence {arrival.seq}, stored {when}"
    by = f" by {arrival.source}" if arrival.source else ""
    return escaped(f"{arrival.subject} for {arrival.slot}: {place}{by}: {_beginning(arrival.payload)}") + (
        f"... ({len(arrival.payload)} bytes)" if len(arrival.payload) > _SHOWN else ""
    )


def arrival_data(arrival: Arrival) -> dict[str, Any]:
    """Return a trigger that has arrived as a JSON object. Every key is there; one that does not apply is null."""
    return {
        "subject": arrival.subject,
        "slot": str(arrival.slot),
        "seq": arrival.seq,
        "stored": None if arrival.seq is None else rfc3339_milliseconds(arrival.time),
        "lateness_seconds": round(arrival.lateness.total_seconds(), 3),
        "source": arrival.source,
        "payload": _payload(arrival.payload),
    }


def _payload(payload: bytes) -> str:
    r"""Return a payload as text; a byte that is not UTF-8 is written as `\xff`."""
    return payload.decode(errors="backslashreplace")


def _beginning(payload: bytes) -> str:
    """Return a payload as text, cut if it is long; secrets are masked before, because the half of one is shown."""
    text = _payload(payload)
    return text if len(payload) <= _SHOWN else masked(text)[:_SHOWN]
