"""What became of each slot of a time, and the totals. Pure: stored messages and the time are arguments."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import pairwise
from math import ceil
from typing import NamedTuple, Self

from crypto_trigger.monitoring.coverage import Cadence, Entry, State, Window, entries
from crypto_trigger.slots.contents import Memory
from crypto_trigger.slots.trigger import Slot, Stored, source

UNKNOWN = "unknown"


class Lateness(NamedTuple):
    """How late triggers were stored after their slots began: the median, the 99th percentile, and the maximum.

    Each is the lateness of one trigger (nearest rank). They are negative if triggers were stored before their slots.
    """

    p50: timedelta
    p99: timedelta
    most: timedelta

    @classmethod
    def of(cls, values: Iterable[timedelta]) -> Self | None:
        """Return the three values, or None if there are no triggers."""
        ordered = sorted(values)
        if not ordered:
            return None
        p50, p99 = (ordered[ceil(len(ordered) * share / 100) - 1] for share in (50, 99))
        return cls(p50, p99, ordered[-1])


class Gap(NamedTuple):
    """A time without a trigger: from the time one was stored until the next one was, or until now."""

    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it was."""
        return self.end - self.start


class History(NamedTuple):
    """The slots of a time, the oldest first, and the totals.

    `now` is the server's time and `since` how far back the slots go. `surplus` counts triggers beside the first one of
    their slot; `sources` counts the first ones by publisher. `gap` is the longest one. `memory` tells why slots are
    unknown, if any are.
    """

    subject: str
    stream: str
    now: datetime
    since: timedelta
    cadence: Cadence
    entries: tuple[Entry, ...]
    counts: Mapping[State, int]
    surplus: int
    lateness: Lateness | None
    gap: Gap
    sources: Mapping[str, int]
    memory: Memory = Memory()

    @classmethod
    def of(
        cls,
        messages: Iterable[Stored],
        first: Stored | None,
        now: datetime,
        since: timedelta,
        cadence: Cadence,
        subject: str,
        stream: str,
        memory: Memory = Memory(),  # noqa: B008 - it cannot be changed
    ) -> Self:
        """Return the history of the slots that began in the time `since` before `now`.

        `messages` are those stored in that time, and `first` is the oldest trigger that the stream still holds.
        """
        found = entries(messages, first, Window.before(now, since, cadence), now, cadence, memory)
        return cls(
            subject=subject,
            stream=stream,
            now=now,
            since=since,
            cadence=cadence,
            entries=found,
            counts=Counter(entry.state for entry in found),
            surplus=sum(entry.surplus for entry in found),
            lateness=Lateness.of(entry.lateness for entry in found if entry.lateness is not None),
            gap=_longest_gap(found, now),
            sources=dict(Counter(source(entry.trigger) or UNKNOWN for entry in found if entry.trigger).most_common()),
            memory=memory,
        )

    def claimed(self, entry: Entry) -> Slot | None:
        """Return the later slot that the trigger's `ce-time` names, or None: its publisher's clock is ahead."""
        return self.cadence.claimed(entry.trigger) if entry.trigger else None


def _longest_gap(found: tuple[Entry, ...], now: datetime) -> Gap:
    """Return the longest time without a trigger between the start of the first slot that is known and now."""
    stored = sorted(entry.trigger.stored_at for entry in found if entry.trigger)
    # Nobody knows when the triggers of unknown slots were stored.
    start = next((entry.slot.start for entry in found if entry.state is not State.UNKNOWN), now)
    if stored and stored[0] < start:
        start = stored[0]
    moments = [start, *stored, max(now, start, *stored)]
    return max((Gap(*pair) for pair in pairwise(moments)), key=lambda gap: gap.length)
