"""The trigger of one run, before and after its slot is fixed."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, assert_never

from crypto_trigger.errors import ConfigError
from crypto_trigger.settings.values import Delivery
from crypto_trigger.slots.times import format_duration, rfc3339
from crypto_trigger.slots.trigger import Reading, Slot, Timing, Trigger, source_of, trace_headers

if TYPE_CHECKING:
    from crypto_trigger.settings.load import Settings


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
