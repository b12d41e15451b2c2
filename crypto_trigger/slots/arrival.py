"""A trigger as a listener gets it: its message, its slot, and how late it is. Pure: times are arguments."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from datetime import datetime, timedelta
from typing import NamedTuple, Self

from crypto_trigger.slots.trigger import Slot, Stored, source


class Arrival(NamedTuple):
    """A trigger that has arrived. `time` is when it was stored, or received if it is not stored (core NATS).

    `seq` is its sequence in the stream, or None if it is not stored. `source` tells who published it (see
    `history.source`).
    """

    subject: str
    slot: Slot
    time: datetime
    payload: bytes
    seq: int | None = None
    source: str | None = None

    @classmethod
    def of(cls, subject: str, message: Stored, payload: bytes, every: timedelta, early: timedelta) -> Self | None:
        """Return the trigger that a message is, or None if it is not one. The sequence of one not stored is 0."""
        slot = message.slot(every, early)
        if slot is None:
            return None
        return cls(subject, slot, message.stored_at, payload, message.seq or None, source(message))

    @property
    def lateness(self) -> timedelta:
        """The time from the slot's start until the trigger was stored or received; negative for an early one."""
        return self.time - self.slot.start
