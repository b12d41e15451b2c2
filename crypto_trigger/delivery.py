"""Deliver one trigger: when to try again, when to stop, and what can be claimed afterwards.

The last error is not the verdict: if one attempt was sent and not acknowledged and the next nine found nobody, the
trigger may be stored, and only a later acknowledgement can say otherwise. One deadline covers everything; a signal
moves it closer. Knows a `Publisher`, not nats.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from crypto_trigger.errors import BrokerError, Interrupted, NoAck, Unavailable
from crypto_trigger.signals import routed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from crypto_trigger.settings import Settings
    from crypto_trigger.trigger import Receipt, Trigger

T = TypeVar("T")
# What an answer that is already due may still take after a signal, in seconds.
GRACE = 2.0
# With less time left, in seconds, no attempt begins: what is cut short after it was sent may or may not have arrived.
_TOO_LATE = 0.1


class Publisher(Protocol):
    """What delivers: one attempt a call."""

    async def publish(self, trigger: Trigger, on_wire: Callable[[bool], None]) -> Receipt:
        """Make one attempt. Tell `on_wire` True before the message may leave, False once it is known not stored.

        Raises a BrokerError: NoAck where the message may be stored, any other where it certainly is not.
        """


class Limits(NamedTuple):
    """How long to go on, in seconds: the deadline for everything, and the bounds of the wait between attempts."""

    give_up_after: float
    backoff_base: float
    backoff_max: float

    @classmethod
    def from_settings(cls, settings: Settings) -> Limits:
        """Return the limits a run is set to."""
        return cls(
            settings.give_up_after.total_seconds(),
            settings.backoff_base.total_seconds(),
            settings.backoff_max.total_seconds(),
        )


class Wait(NamedTuple):
    """Why and how long a run waits between two attempts; the times in seconds."""

    attempt: int
    cause: BrokerError
    wait: float
    left: float


class Persistence:
    """Tries something again until it succeeds, fails for good, or the time is up; SIGINT and SIGTERM shorten the time.

    Use one for one `run`. `attempts` counts the calls made; `on_wire` is for attempts to tell that from here on their
    effect may be lasting.
    """

    def __init__(self, limits: Limits, on_wait: Callable[[Wait], None] = lambda _: None) -> None:
        self._limits = limits
        self._on_wait = on_wait
        self._on_wire = False
        self._signum = 0
        self._last: BrokerError | None = None
        self._unacknowledged: BrokerError | None = None
        self._timeout: asyncio.Timeout | None = None
        self.attempts = 0

    def on_wire(self, sent: bool) -> None:
        """Note whether the message of the present attempt may be on its way."""
        self._on_wire = sent

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what the first successful attempt returns.

        Raises a BrokerError that speaks for all attempts, or Interrupted.
        """
        with routed(asyncio.get_running_loop(), self._interrupt):
            try:
                async with asyncio.timeout(self._limits.give_up_after) as self._timeout:
                    return await self._try(attempt)
            except TimeoutError:
                verdict, cause = self._verdict(), self._last
            except BrokerError as error:
                verdict, cause = self._verdict(error), error
            verdict.attempts = self.attempts
            raise verdict from cause

    async def _try(self, attempt: Callable[[], Awaitable[T]]) -> T:
        waits: Iterator[float] | None = None
        while True:
            self.attempts += 1
            self._on_wire = False
            try:
                return await attempt()
            except BrokerError as error:
                self._last = error
                if isinstance(error, NoAck):
                    self._unacknowledged = error
                self._on_wire = False
                if self._signum or not error.retryable or self._left() < _TOO_LATE:
                    raise
                # Loaded after a first failure only: a run that succeeds at once does not pay for it.
                waits = waits or _waits(self._limits)
                # Never past half of what is left, so that the end of the time is used, too.
                wait = min(next(waits), self._left() / 2)
                self._on_wait(Wait(self.attempts, error, wait, self._left()))
            await asyncio.sleep(wait)

    def _left(self) -> float:
        when = self._timeout.when() if self._timeout else None
        return max(0.0, (when or 0.0) - asyncio.get_running_loop().time())

    def _interrupt(self, signum: int) -> None:
        """Start no new attempt, and end: at once, or as soon as an answer already due is in or has had its time."""
        grace = GRACE if self._on_wire and not self._signum else 0.0
        self._signum = self._signum or signum
        if self._timeout and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + min(grace, self._left()))

    def _verdict(self, final: BrokerError | None = None) -> BrokerError | Interrupted:
        """Return what can be claimed after everything that was tried; `final` is the error that ended it, if any."""
        perhaps = self._unacknowledged
        if self._on_wire:
            perhaps = NoAck("the trigger was sent and nobody acknowledged it in time")
        if self._signum:
            name = signal.Signals(self._signum).name
            said = "sent, but not acknowledged: it may be stored" if perhaps else "not sent"
            return Interrupted(self._signum, f"interrupted by {name}: the trigger was {said}")
        counted = f"{self.attempts} attempt{'s' if self.attempts > 1 else ''}"
        last = final or self._last
        if perhaps:
            message = perhaps.message
            if last and last.message != message:
                message = f"{message}; then: {last.message}"
            return NoAck(
                f"the trigger may or may not be stored ({counted}): {message}",
                perhaps.hint or "run it again to make sure: with delivery jetstream that cannot double it",
            )
        if last is None:
            return Unavailable(
                f"no answer in {self._limits.give_up_after:g}s", "is CRYPTO_TRIGGER_GIVE_UP_AFTER too short?"
            )
        return type(last)(f"{last.message} ({counted})" if last.retryable else last.message, last.hint)


async def deliver(
    trigger: Trigger,
    publisher: Publisher,
    limits: Limits,
    on_wait: Callable[[Wait], None] = lambda _: None,
) -> Receipt:
    """Deliver `trigger` and return its receipt. Raises a BrokerError, NoAck if it may be stored, or Interrupted."""
    persistence = Persistence(limits, on_wait)
    receipt = await persistence.run(lambda: publisher.publish(trigger, persistence.on_wire))
    return receipt._replace(attempts=persistence.attempts)


def _waits(limits: Limits) -> Iterator[float]:
    """Yield the waits between attempts, in seconds: exponential, with full jitter.

    backoff's parts, not its decorator: that one measures the time by the wall clock, and only between attempts.
    """
    import backoff

    waits = backoff.expo(factor=limits.backoff_base, max_value=limits.backoff_max)
    next(waits)  # the generator's protocol: the first value says it is ready
    return (backoff.full_jitter(wait) for wait in waits)
