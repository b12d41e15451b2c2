"""Try something until it succeeds, fails for good, is interrupted or out of time.

One deadline covers everything, and a signal moves it closer. The result is one value, or one `GaveUp` for all attempts.
The last error alone does not decide: if the first attempt was sent and not acknowledged, and nine more attempts found
no server, the work may still have been done. Only a later success changes that.
"""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from crypto_trigger.deadline import signals
from crypto_trigger.errors import BrokerError, Fact, Interrupted, NoAck, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator


T = TypeVar("T")
# What an answer that is already due may still take after a signal, in seconds.
GRACE = 2.0
# With less time left, in seconds, no attempt begins: if it is cut off after sending, nobody knows whether it arrived.
_TOO_LATE = 0.1
# The file descriptors of a run: three for the event loop, one each for the connection, an import and the name lookup.
_DESCRIPTORS = 6


class Limits:
    """The time limits of a run, in seconds: the deadline, the bounds of the backoff, and the time already spent.

    `by_slot` tells that the end of the run's slot is the deadline, not a setting.
    """

    def __init__(
        self,
        give_up_after: float,
        backoff_base: float,
        backoff_max: float,
        spent: float = 0.0,
        *,
        by_slot: bool = False,
    ) -> None:
        self.give_up_after: Final = give_up_after
        self.backoff_base: Final = backoff_base
        self.backoff_max: Final = backoff_max
        self.spent: Final = spent
        self.by_slot: Final = by_slot

    def ended_by_slot(self, give_up_after: float, spent: float) -> Self:
        """Return these limits with the deadline that the end of the slot sets."""
        return type(self)(give_up_after, self.backoff_base, self.backoff_max, spent, by_slot=True)

    @property
    def left(self) -> float:
        """The time left until the deadline when the attempts begin, in seconds."""
        return max(0.0, self.give_up_after - self.spent)


class Wait:
    """Why and how long a run waits between two attempts. Times are in seconds."""

    def __init__(self, attempt: int, cause: BrokerError, wait: float, left: float) -> None:
        self.attempt: Final = attempt
        self.cause: Final = cause
        self.wait: Final = wait
        self.left: Final = left


class Attempt:
    """One attempt: its number, beginning at 1, and the time that is left for it.

    The code that makes the attempt sets `sent` to True before it sends anything that may have an effect, and back to
    False once it knows that there was no effect. It sets `where` to the server it deals with, and `failure` to what it
    has found so far: both are reported if the time ends before the attempt does.
    """

    def __init__(self, number: int, left: Callable[[], float]) -> None:
        """Take the number, and a function that returns the time left until the deadline, in seconds."""
        self.number = number
        self.left = left
        self.sent = False
        self.where = ""
        self.failure: BrokerError | None = None

    def share(self, parts: int = 1) -> float:
        """Return an equal share of the time left, in seconds, for each of `parts` steps and for what comes after them.

        Otherwise the first server that never answers would use up all the time.
        """
        return self.left() / (parts + 1)


class GaveUp(Exception):
    """All attempts failed, or there was no time for more.

    `last` is the error of the last attempt that ended; one that the deadline cut short counts only if there is no
    other. `unknown` is the error of the first attempt whose effect is not known. `signum` is the signal that ended
    the run, or 0; `limits` has the deadline; `where` is the server that was being waited for.
    """

    def __init__(
        self,
        attempt: Attempt,
        last: BrokerError | None,
        unknown: BrokerError | None,
        signum: int,
        limits: Limits,
    ) -> None:
        super().__init__(attempt, last, unknown, signum, limits)
        self.attempts = attempt.number
        self.where = attempt.where
        self.last = last
        self.unknown = unknown
        self.signum = signum
        self.limits = limits

    def error(self, again: str = "") -> BrokerError | Interrupted:
        """Return one error for all attempts. `again` is a hint about running again, used if the work may be done."""
        error = self._error(again)
        error.attempts = self.attempts
        return error

    def _error(self, again: str) -> BrokerError | Interrupted:
        counted = f"{self.attempts} attempt{'s' if self.attempts > 1 else ''}"
        if self.signum:
            name = signal.Signals(self.signum).name
            last = f" after {counted}; last: {self.last.message}" if self.last else ""
            if not last and self.where:
                last = f" while waiting for {self.where}"
            perhaps = self.unknown is not None
            return Interrupted(self.signum, f"interrupted by {name}{last}", again if perhaps else "", perhaps=perhaps)
        if self.limits.by_slot and (self.last is None or self.last.retryable):
            counted = f"{counted} until the end of its slot"
        if self.unknown:
            message = f"{self.unknown.message} ({counted})"
            if self.last and self.last.message != self.unknown.message:
                message = f"{message}; then: {self.last.message}"
            hint = "; ".join(filter(None, (self.unknown.hint, again)))
            return NoAck(message, hint, self.unknown.fact, self.unknown.said)
        if self.last is None:
            where = f"{self.where}: " if self.where else ""
            if self.limits.by_slot:
                return Unavailable(f"{where}no answer until the end of its slot", "start it earlier in its slot")
            limit = self.limits.give_up_after
            return Unavailable(
                f"{where}no answer in {limit:g}s",
                "is CRYPTO_TRIGGER_GIVE_UP_AFTER too short, or is the server overloaded?",
            )
        message = f"{self.last.message} ({counted})" if self.last.retryable else self.last.message
        return self.last.reworded(message, self.last.hint)


class Retry:
    """Tries again until it succeeds, fails for good, or the time is up; SIGINT and SIGTERM shorten the time.

    One object is for one `run`.
    """

    def __init__(self, limits: Limits, on_wait: Callable[[Wait], None] = lambda _: None) -> None:
        self._limits = limits
        self._on_wait = on_wait
        self._attempt = Attempt(0, self._left)
        self._signum = 0
        self._last: BrokerError | None = None
        self._unknown: BrokerError | None = None
        self._timeout: asyncio.Timeout | None = None
        # When the deadline was lifted, by the loop's clock; 0 while it counts.
        self._lifted = 0.0

    @property
    def last(self) -> BrokerError | None:
        """The error of the last attempt that ended, or what the present one has found so far."""
        return self._last or self._attempt.failure

    @property
    def attempts(self) -> int:
        """The number of attempts that have begun."""
        return self._attempt.number

    def lift(self) -> None:
        """Lift the deadline for the rest of the present attempt. If that fails, the deadline counts anew from then on.

        For work that has reached what the deadline is for, and goes on for as long as it takes.
        """
        if self._timeout and not self._signum and not self._timeout.expired():
            self._lifted = asyncio.get_running_loop().time()
            self._timeout.reschedule(None)
            self._last = self._unknown = None

    async def run(self, work: Callable[[Attempt], Awaitable[T]]) -> T:
        """Return what the first successful attempt returns. Raises GaveUp; other errors are raised unchanged."""
        with signals.routed(asyncio.get_running_loop(), self._interrupt):
            try:
                async with asyncio.timeout(self._limits.left) as self._timeout:
                    return await self._try(work)
            except (TimeoutError, BrokerError) as error:
                if self._attempt.sent and not self._unknown:
                    where = f"{self._attempt.where}: " if self._attempt.where else ""
                    message = f"{where}it was sent and nobody acknowledged it in time"
                    self._unknown = NoAck(message, fact=Fact.NOT_ACKNOWLEDGED)
                end = GaveUp(self._attempt, self.last, self._unknown, self._signum, self._limits)
                raise end from error

    async def _try(self, work: Callable[[Attempt], Awaitable[T]]) -> T:
        waits: Iterator[float] | None = None
        while True:
            self._attempt = Attempt(self.attempts + 1, self._left)
            try:
                return await work(self._attempt)
            except BrokerError as error:
                if self._lifted and self._count_anew():
                    waits = None
                if not (error.cut_short and self._last):
                    self._last = error
                if error.perhaps:
                    self._unknown = self._unknown or error
                self._attempt.sent = False
                if self._signum or not error.retryable or self._left() < _TOO_LATE:
                    raise
                # This loads backoff, so only after a first failure: a run that succeeds at once does not need it.
                waits = waits or _waits(self._limits)
                # At most half of the time left, so that there is time for another attempt.
                wait = min(next(waits), self._left() / 2)
                self._on_wait(Wait(self.attempts, error, wait, self._left()))
            await asyncio.sleep(wait)

    def _count_anew(self) -> bool:
        """Let the deadline count from now on. Tell whether the attempt lasted so long that the next waits are short."""
        now = asyncio.get_running_loop().time()
        lasted, self._lifted = now - self._lifted, 0.0
        if self._timeout and not self._signum:
            self._timeout.reschedule(now + self._limits.give_up_after)
        return lasted > self._limits.backoff_max

    def _left(self) -> float:
        if self._lifted:
            return float("inf")
        when = self._timeout.when() if self._timeout else None
        return max(0.0, (when or 0.0) - asyncio.get_running_loop().time())

    def _interrupt(self, signum: int) -> None:
        """Start no new attempt. End at once; if an answer is due, wait for it until the grace period is over."""
        grace = GRACE if self._attempt.sent and not self._signum else 0.0
        self._signum = self._signum or signum
        if self._timeout and not self._timeout.expired():
            self._timeout.reschedule(asyncio.get_running_loop().time() + min(grace, self._left()))


def complete(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop and return its result.

    Raises what it raises, and Unavailable if the process has too few file descriptors left.
    """
    signals.postpone()
    held: list[int] = []
    try:
        while len(held) < _DESCRIPTORS:
            held += os.pipe()  # needs no file, so that it also works without /dev
    except OSError as error:
        work.close()
        reason = os.strerror(error.errno or 0).lower()
        raise Unavailable(f"no connection can be made: {reason}", "raise the limit with ulimit -n") from error
    finally:
        for descriptor in held:
            os.close(descriptor)
    return asyncio.run(work)


def _waits(limits: Limits) -> Iterator[float]:
    """Yield the waits between attempts, in seconds: exponential, with full jitter.

    This uses backoff's generators, not its decorator, which measures time by the wall clock and only between attempts.
    """
    import backoff

    waits = backoff.expo(factor=limits.backoff_base, max_value=limits.backoff_max)
    next(waits)  # the first value of backoff's generators is None
    return (backoff.full_jitter(wait) for wait in waits)
