"""Deliver one trigger with retries, or rehearse that, and say in the end whether it may be stored.

`Draft` is the trigger before and after its slot is fixed. This module does not depend on nats.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, assert_never

from crypto_trigger.deadline.retry import GaveUp, Limits, Retry, Wait
from crypto_trigger.errors import ConfigError, TriggerError
from crypto_trigger.settings.values import Delivery
from crypto_trigger.slots.times import format_duration, rfc3339
from crypto_trigger.slots.trigger import Reading, Slot, Timing, Trigger, source_of, trace_headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from crypto_trigger.deadline.retry import Attempt, Limits, Wait
    from crypto_trigger.settings.load import Settings
    from crypto_trigger.slots.trigger import Receipt


class Publisher(Protocol):
    """A way to deliver: one attempt per call."""

    async def publish(self, draft: Draft, attempt: Attempt) -> Receipt:
        """Make one attempt; `attempt.sent` is True while the message may have been sent and may be stored.

        Fixes the draft's slot before it sends anything. Raises a BrokerError: NoAck where the message may be stored,
        any other where it certainly is not; ConfigError where the draft's time does not fit the server's.
        """

    def again(self) -> str:
        """Return a hint about running again, for a trigger that may be stored."""


async def deliver(
    draft: Draft,
    publisher: Publisher,
    limits: Limits,
    on_wait: Callable[[Wait], None] = lambda _: None,
) -> Receipt:
    """Deliver the draft's trigger and return its receipt.

    Raises a BrokerError (NoAck if the trigger may be stored), Interrupted, or ConfigError.
    """
    retry = Retry(limits, on_wait)
    try:
        receipt = await retry.run(lambda attempt: publisher.publish(draft, attempt))
    except GaveUp as end:
        raise end.error(publisher.again()) from end.last
    if not draft.fixed:
        raise RuntimeError("the publisher delivered a trigger whose slot it had not fixed")
    return receipt.after(retry.attempts)


class Rehearsal(Publisher, Protocol):
    """A way to rehearse a delivery: one attempt per call.

    `stored` is True if the server says that it has stored the message, which it should have refused.
    """

    stored: bool


async def rehearse(draft: Draft, rehearsal: Rehearsal, limits: Limits, on_wait: Callable[[Wait], None]) -> Receipt:
    """Rehearse the delivery of the draft's trigger. Return the receipt, and raise the errors, that `deliver` would.

    Such an error is not `perhaps`, whatever became of the message, unless the server says that it has stored it.
    """
    try:
        return await deliver(draft, rehearsal, limits, on_wait)
    except TriggerError as error:
        error.perhaps = rehearsal.stored
        raise


def accepted(settings: Settings, receipt: Receipt) -> str:
    """Describe in words which credentials the server of a receipt has accepted. Shows no secret."""
    server = next(server for server in settings.servers if str(server) == receipt.server)
    return f"{receipt.server} accepts {settings.credentials_in_force(server)}"


class Draft:
    """The trigger of one run. Its slot is fixed at the first answer of the server and does not change after that.

    Until then, `trigger` is for the slot by this host's clock. `warnings` and `details` are texts for the operator
    about the fixing.
    """

    def __init__(self, settings: Settings, now: datetime, host: str, *, force: bool, offline: bool = False) -> None:
        """Take this host's time and name. `offline` means that no server will be asked.

        Raises ConfigError if the time given to the run does not fit this host's clock, and this clock decides. With
        JetStream the server's clock decides, once it is asked.
        """
        self._settings = settings
        self._source = source_of(settings.client_id, host)
        self._trace = trace_headers(settings.traceparent, settings.tracestate)
        self._extra = os.urandom(4).hex() if force else ""
        self._now = now
        self._timing = Timing(settings.every, settings.early, settings.scheduled_at, settings.k8s_job)
        match settings.delivery:
            case Delivery.JETSTREAM:
                decides = offline
            case Delivery.CORE | Delivery.STREAMING:
                decides = True
            case _:
                assert_never(settings.delivery)
        self.fixed = False
        self.warnings: list[str] = []
        self.details: list[str] = []
        self.trigger = self._make(now, "this host", decides=decides)

    @property
    def time_left(self) -> timedelta | None:
        """How long the run may last from the time it was given, by this host's clock; None if nothing but settings say.

        See `Timing.time_left`.
        """
        return self._timing.time_left(self._now)

    def fix(self, reading: Reading | None) -> Trigger:
        """Fix the slot by the server's clock, or by this host's if there is no reading, and return the trigger.

        A slot that is already fixed does not change. Raises ConfigError if the slot of the given time has not begun by
        that clock.
        """
        if self.fixed:
            return self.trigger
        now = reading.server if reading else self._now
        waited = reading.asked - self._now if reading else timedelta(0)
        self.trigger = self._make(now, "the server" if reading else "this host", waited=waited)
        self.fixed = True
        if problem := self._timing.warning(now):
            self.warnings.append(self._settings.source("k8s_job").problem(problem))
        if reading and abs(reading.skew) > self._timing.early:
            ahead = "ahead of" if reading.skew > timedelta(0) else "behind"
            self.warnings.append(
                f"the clock of this host is {format_duration(_rounded(abs(reading.skew)))} {ahead} the server's; "
                "the server's decides the slot"
            )
        return self.trigger

    def _make(self, now: datetime, whose: str, *, decides: bool = True, waited: timedelta = timedelta(0)) -> Trigger:
        try:
            slot: Slot = self._timing.slot(now, decides=decides, waited=waited)
        except (ValueError, OverflowError) as error:
            what = f"{error}; by the clock of {whose} it is {rfc3339(now)}"
            raise ConfigError(self._settings.source("scheduled_at").problem(what)) from None
        return Trigger.for_slot(slot, self._settings.subject, self._source, self._trace, self._extra)


def _rounded(length: timedelta) -> timedelta:
    """Return a duration rounded to milliseconds, or to seconds if it is at least one second; never zero."""
    step = timedelta(seconds=1) if length >= timedelta(seconds=1) else timedelta(milliseconds=1)
    return max(step, round(length / step) * step)
