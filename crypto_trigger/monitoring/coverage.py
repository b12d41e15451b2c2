"""Which slots have their trigger, and how late it was stored. Pure: stored messages and the time are arguments."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from crypto_trigger.slots.contents import Memory
from crypto_trigger.slots.times import format_duration
from crypto_trigger.slots.trigger import Slot, Stored

# More slots than this are refused: they would take too much time and memory.
MOST_SLOTS = 100_000


class State(StrEnum):
    """The state of one slot.

    A slot with a trigger is `triggered`, or `late` if the trigger was stored after the grace. A finished slot without
    one is `missed`. The present slot without one is `pending`, and `overdue` once its grace is over. A slot is
    `unknown` if it has no trigger now and may have had one, which the stream has removed.
    """

    TRIGGERED = "triggered"
    LATE = "late"
    MISSED = "missed"
    OVERDUE = "overdue"
    PENDING = "pending"
    UNKNOWN = "unknown"


class Cadence(NamedTuple):
    """How often triggers are due: a slot's length, how early a run may be, and how late its trigger may be stored.

    A trigger that is stored `grace` after its slot began is still in time; later ones are late.
    """

    every: timedelta
    early: timedelta
    grace: timedelta

    def slot(self, message: Stored) -> Slot | None:
        """Return the slot whose trigger this message is, or None if it is not a trigger."""
        return message.slot(self.every, self.early)

    def claimed(self, message: Stored) -> Slot | None:
        """Return the slot that `ce-time` names, if it is later than the one that the message counts for; else None.

        Its publisher's clock is ahead by more than `early`, or it was told a time that had not come.
        """
        counted, claimed = self.slot(message), message.claimed_slot(self.every)
        return claimed if counted and claimed and claimed.start > counted.start else None

    def is_ahead(self, message: Stored, now: datetime) -> bool:
        """Tell whether the server's clock, which is at `now`, has gone back since it stored this message."""
        return message.is_ahead(now, self.every, self.early)


class Entry(NamedTuple):
    """One slot: its state, the first trigger stored for it, if any, and how many more there are (`surplus`)."""

    slot: Slot
    state: State
    trigger: Stored | None = None
    surplus: int = 0

    @property
    def lateness(self) -> timedelta | None:
        """The time from the slot's start until its trigger was stored; negative for an early one."""
        return self.trigger.stored_at - self.slot.start if self.trigger else None


class Window(NamedTuple):
    """The slots that are looked at, from the `first` one to the `present` one, which has not ended."""

    first: Slot
    present: Slot

    @classmethod
    def before(cls, now: datetime, since: timedelta, cadence: Cadence) -> "Window":
        """Return the slots that began in the time `since` before `now`. The present slot is always one of them.

        Like a run, `now` belongs to the next slot from `early` before that slot begins.
        """
        # Python adds to a local time without regard to a change of the clocks.
        until = now.astimezone(UTC) + cadence.early
        present = Slot.containing(until, cadence.every)
        before = Slot.containing(until - since, cadence.every)
        return cls(min(present, Slot(before.start + cadence.every, cadence.every)), present)

    def stored_from(self, cadence: Cadence) -> datetime:
        """Return the time from which on the triggers of these slots were stored."""
        return self.first.start - cadence.early


def check_since(since: timedelta, every: timedelta) -> None:
    """Raise ValueError if `since` holds too many slots."""
    if since / every > MOST_SLOTS:
        raise ValueError(f"holds more than {MOST_SLOTS} slots of {format_duration(every)}")


def entries(
    messages: Iterable[Stored],
    first: Stored | None,
    window: Window,
    now: datetime,
    cadence: Cadence,
    memory: Memory = Memory(),  # noqa: B008 - it cannot be changed
) -> tuple[Entry, ...]:
    """Return an entry for each slot of the window, the oldest first.

    `messages` are those stored since `window.stored_from`, in any order, and `first` is the oldest trigger that the
    stream still holds, if there is one. Slots before it are unknown if the stream has removed messages that were stored
    in the window. Otherwise they had no trigger, and are left out: nobody published yet. `now` is the server's time.
    """
    found: dict[datetime, dict[int, Stored]] = {}
    for message in messages:
        if slot := cadence.slot(message):
            found.setdefault(slot.start, {})[message.seq] = message
    oldest = first and cadence.slot(first)
    begin = min([*found, *((oldest.start,) if oldest else ())], default=window.present.start)
    start = known = max(window.first.start, min(begin, window.present.start))
    if not memory.holds(window.stored_from(cadence)):
        start, known = _remembered(first, window, now, cadence, memory)
        start = min([start, *(slot for slot in found if slot >= window.first.start)])
    start = min(start, window.present.start)
    made = []
    while start <= window.present.start:
        slot = Slot(start, cadence.every)
        stored = found.get(start, {})
        trigger = stored[min(stored)] if stored else None
        state = _state(slot, trigger, window.present, now, cadence)
        if trigger is None and start < known:
            state = State.UNKNOWN
        made.append(Entry(slot, state, trigger, max(0, len(stored) - 1)))
        start += cadence.every
    return tuple(made)


def _remembered(
    first: Stored | None, window: Window, now: datetime, cadence: Cadence, memory: Memory
) -> tuple[datetime, datetime]:
    """Return the first slot that may have had a trigger, and the first one of which that is known, by their starts."""
    # What was stored since then is there, because a stream removes the oldest messages of a subject first.
    since = first.stored_at if first else memory.since or now
    slot = Slot.containing(since + cadence.early, cadence.every)
    if first is None or cadence.slot(first) != slot:
        # What was stored earlier in that slot may be gone.
        slot = Slot(slot.start + cadence.every, cadence.every)
    start = window.first.start
    if memory.created and memory.created > start:
        created = Slot.containing(memory.created, cadence.every).start
        start = created if created == memory.created else created + cadence.every
    return max(window.first.start, min(start, slot.start)), slot.start


def known_since(found: Iterable[Entry]) -> Slot | None:
    """Return the first slot after those of which nothing is known; None if there are no such slots, or no later ones.

    `found` are entries, the oldest first.
    """
    since, was_known = None, True
    for entry in found:
        if entry.state is State.UNKNOWN:
            since, was_known = None, False
        elif not was_known:
            since, was_known = entry.slot, True
    return since


def runs(starts: Sequence[datetime], every: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Yield the first and the last of the slots that follow each other; `starts` are in order."""
    first = None
    for number, start in enumerate(starts):
        first = first or start
        if number + 1 == len(starts) or starts[number + 1] != start + every:
            yield first, start
            first = None


def _state(slot: Slot, trigger: Stored | None, present: Slot, now: datetime, cadence: Cadence) -> State:
    if trigger:
        return State.LATE if trigger.stored_at - slot.start > cadence.grace else State.TRIGGERED
    if slot.start < present.start:
        return State.MISSED
    return State.OVERDUE if now - slot.start > cadence.grace else State.PENDING
