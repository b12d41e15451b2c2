"""Which slots have their trigger, and how late it was stored. Pure: stored messages and the time are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from crypto_trigger.trigger import Slot, Stored


class State(StrEnum):
    """The state of one slot.

    A finished slot is `triggered`, `late` (its trigger was stored after the grace) or `missed`. The present slot
    without a trigger is `pending`, and `overdue` once its grace is over.
    """

    TRIGGERED = "triggered"
    LATE = "late"
    MISSED = "missed"
    OVERDUE = "overdue"
    PENDING = "pending"


@dataclass(frozen=True)
class Cadence:
    """How often triggers are due: a slot's length, how early a run may be, and how late its trigger may be stored."""

    every: timedelta
    early: timedelta
    grace: timedelta


@dataclass(frozen=True)
class Entry:
    """One slot: its state, the first trigger stored for it, if any, and how many more there are (`surplus`)."""

    slot: Slot
    state: State
    trigger: Stored | None = None
    surplus: int = 0

    @property
    def lateness(self) -> timedelta | None:
        """The time from the slot's start until its trigger was stored; negative for an early one."""
        return self.trigger.stored_at - self.slot.start if self.trigger else None
