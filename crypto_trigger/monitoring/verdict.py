"""What `check` finds in the slots and the consumers: findings, each with a level. The worst one decides. Pure."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from crypto_trigger.monitoring.coverage import Cadence, Entry, State, Window, entries, known_since, runs
from crypto_trigger.slots.contents import Consumer, Held
from crypto_trigger.slots.subjects import takes
from crypto_trigger.slots.times import approximate, format_duration, rfc3339
from crypto_trigger.slots.trigger import Slot, Stored

if TYPE_CHECKING:
    from crypto_trigger.slots.contents import Held

# A window has at least the present slot and these many finished ones, so that a long slot's miss is seen, too.
_LEAST_FINISHED = 2
# So many slots are named one by one; of more, so many runs.
_MOST_SINGLE = 4
_MOST_NAMED = 10


class Level(IntEnum):
    """The four results of a monitoring plugin. The number is its exit status."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Finding(NamedTuple):
    """One thing that was found, in words, and how bad it is."""

    level: Level
    text: str


class Thresholds(NamedTuple):
    """From which number of missed slots, and from which age of a trigger without an acknowledgement, a level counts."""

    missed_warn: int
    missed_critical: int
    consumer_warn: timedelta
    consumer_critical: timedelta

    def of_missed(self, count: int) -> Level:
        """Return the level of so many missed slots."""
        if count >= self.missed_critical:
            return Level.CRITICAL
        return Level.WARNING if count >= self.missed_warn else Level.OK

    def of_age(self, age: timedelta) -> Level:
        """Return the level of a trigger that a consumer has not acknowledged for so long."""
        if age > self.consumer_critical:
            return Level.CRITICAL
        return Level.WARNING if age > self.consumer_warn else Level.OK


class Backlog(NamedTuple):
    """What a consumer has not acknowledged: how many triggers, and the oldest of them, if any; and how bad that is."""

    consumer: str
    level: Level
    unacknowledged: int
    oldest: Stored | None


class CheckResult(NamedTuple):
    """The result of a check: the findings, and what they were found in. `newest` is the newest trigger and its slot.

    `skew` is how much this host's clock is ahead of the server's (negative: behind); None if that is not known.
    """

    findings: tuple[Finding, ...]
    now: datetime
    skew: timedelta | None
    entries: tuple[Entry, ...]
    newest: tuple[Slot, Stored] | None
    backlogs: tuple[Backlog, ...]
    thresholds: Thresholds

    @property
    def level(self) -> Level:
        """The worst level of the findings."""
        return max(finding.level for finding in self.findings)

    def slots(self, *states: State) -> list[Slot]:
        """Return the slots of the window that are in one of these states."""
        return [entry.slot for entry in self.entries if entry.state in states]

    @property
    def surplus(self) -> int:
        """The number of triggers beyond one per slot."""
        return sum(entry.surplus for entry in self.entries)

    @property
    def due(self) -> int:
        """The number of slots that should have their trigger by now, as far as that is known."""
        return len(self.entries) - len(self.slots(State.PENDING, State.UNKNOWN))


def window_length(since: timedelta, every: timedelta, thresholds: Thresholds) -> timedelta:
    """Return how far back slots are looked at: `since`, but so far that each threshold can be reached.

    That is at least the present slot and the two before it.
    """
    finished = max(_LEAST_FINISHED, thresholds.missed_critical)
    # The trigger that has waited too long may have been stored up to a slot earlier than that.
    return max(since, (finished + 1) * every, thresholds.consumer_critical + 2 * every)


def examine(
    held: "Held", consumers: Sequence[Consumer], since: timedelta, cadence: Cadence, thresholds: Thresholds
) -> CheckResult:
    """Return what is found in the messages that a stream holds, and in its consumers.

    The messages are those of the time `since`, a `window_length`.
    """
    window = Window.before(held.now, since, cadence)
    looked_at = entries(held.messages, held.first, window, held.now, cadence, held.memory)
    newest = _newest(held, looked_at, cadence)
    backlogs = tuple(_backlog(consumer, held, newest, cadence, thresholds) for consumer in consumers)
    result = CheckResult(
        findings=(),
        now=held.now,
        skew=held.reading.skew if held.reading else None,
        entries=looked_at,
        newest=newest,
        backlogs=backlogs,
        thresholds=thresholds,
    )
    found = [*_slots(result, held, since, cadence), *_clocks(result, held, cadence)]
    for consumer, backlog in zip(consumers, backlogs, strict=True):
        found.append(_consumer(consumer, backlog, held, cadence))
    return result._replace(findings=tuple(found))


def _newest(held: "Held", looked_at: Sequence[Entry], cadence: Cadence) -> tuple[Slot, Stored] | None:
    """Return the trigger of the latest slot that has one."""
    for entry in reversed(looked_at):
        if entry.trigger:
            return entry.slot, entry.trigger
    # The newest message may be a marker, and the first one of the stream still be a trigger.
    for message in (held.newest, held.first):
        if message and (slot := cadence.slot(message)):
            return slot, message
    return None


def _slots(result: CheckResult, held: "Held", since: timedelta, cadence: Cadence) -> Iterator[Finding]:
    """Yield what is found in the slots."""
    if result.newest is None:
        yield _never(held, cadence)
        return
    slot, trigger = result.newest
    missed, overdue = result.slots(State.MISSED), result.slots(State.OVERDUE)
    beside = _not_known(result, held)
    if missed:
        day = rfc3339(result.now)[: len("2026-11-23T")]
        text = f"missed {_named(missed)}; the newest is of {str(slot).removeprefix(day)}"
        yield Finding(result.thresholds.of_missed(len(missed)), text + beside)
    for late in overdue:
        age = approximate(result.now - late.start)
        text = f"{late} is overdue: it has no trigger {age} after it began"
        yield Finding(Level.WARNING, text if missed else text + beside)
    if not missed and not overdue:
        lateness = trigger.stored_at - slot.start
        side = "before" if lateness < timedelta(0) else "after"
        yield Finding(
            Level.UNKNOWN if result.entries[-1].state is State.UNKNOWN else Level.OK,
            f"{slot} stored {approximate(abs(lateness))} {side} its slot began; "
            f"{result.due} of {result.due} slots in {format_duration(since)}{beside}",
        )


def _not_known(result: CheckResult, held: "Held") -> str:
    """Return which slots are not known, and why, as the end of a text; nothing if all are."""
    count, known = len(result.slots(State.UNKNOWN)), known_since(result.entries)
    if not count:
        return ""
    if known is None:
        which = f"whether {result.entries[-1].slot} has its trigger is not known"
    elif count == 1:
        which = f"1 slot before {known} is not known"
    else:
        which = f"{count} slots before {known} are not known"
    return f"; {which}: stream {held.config.get('name')} {held.memory.loss}"


def _never(held: "Held", cadence: Cadence) -> Finding:
    """Return the finding of a stream that holds no trigger."""
    name, config = held.config.get("name"), held.config
    subjects = config.get("subjects")
    # What a mirror or a source brings, or a transform makes, is not limited to these subjects.
    others = (config.get("mirror"), config.get("sources"), config.get("subject_transform"))
    if isinstance(subjects, list) and not any(others):
        taken = [subject for subject in subjects if isinstance(subject, str)]
        if not takes(taken, held.subject):
            return Finding(Level.CRITICAL, f"stream {name} does not take the subject {held.subject}")
    age = held.now - held.created if held.created else None
    allowed = cadence.every + cadence.grace
    if age is not None and age <= allowed:
        return Finding(Level.OK, f"no trigger has been stored yet: stream {name} is {approximate(age)} old")
    if held.memory.since and held.now - held.memory.since <= allowed:
        text = f"no trigger is stored for {held.subject}, and whether there was one is not known"
        return Finding(Level.UNKNOWN, f"{text}: stream {name} {held.memory.loss}")
    old = f", which is {approximate(age)} old" if age else ""
    return Finding(Level.CRITICAL, f"no trigger is stored for {held.subject} in stream {name}{old}")


def _clocks(result: CheckResult, held: "Held", cadence: Cadence) -> Iterator[Finding]:
    """Yield what is wrong with the clock of this host, and with those of the publishers."""
    if result.skew is not None and abs(result.skew) > cadence.early:
        side = "ahead of" if result.skew > timedelta(0) else "behind"
        yield Finding(Level.WARNING, f"the clock of this host is {approximate(abs(result.skew))} {side} the server's")
    if text := clock_went_back(held, cadence):
        yield Finding(Level.WARNING, text)
    # The last trigger of each publisher counts: its clock may have been set right since the one before.
    last = {message.source: message for message in sorted(held.messages, key=lambda message: message.seq)}
    ahead = [(message, slot) for message in last.values() if (slot := cadence.claimed(message))]
    for message, slot in ahead[:_MOST_NAMED]:
        yield Finding(
            Level.WARNING,
            f"the clock of the publisher {message.source or 'without a name'} is at least "
            f"{approximate(slot.start - message.stored_at)} ahead: its trigger for {slot} was stored at "
            f"{rfc3339(message.stored_at)} (sequence {message.seq})",
        )


def clock_went_back(held: "Held", cadence: Cadence) -> str:
    """Return that a message lies in the server's future, in words; nothing if there is none.

    Where the server does not tell its time, that of this host is taken for it.
    """
    messages = (*held.messages, *((held.newest,) if held.newest else ()))
    latest = max(messages, key=lambda message: message.stored_at, default=None)
    if latest is None or not latest.in_future(held.now, cadence.early):
        return ""
    stored = f"{held.subject} was stored at {rfc3339(latest.stored_at)} (sequence {latest.seq})"
    if held.reading is None:
        return f"by the clock of this host it is {rfc3339(held.now)}, but {stored}"
    return f"the server's clock went back: by it, {stored}, and now it is {rfc3339(held.now)}"


def _backlog(
    consumer: Consumer,
    held: "Held",
    newest: tuple[Slot, Stored] | None,
    cadence: Cadence,
    thresholds: Thresholds,
) -> Backlog:
    triggers = {message.seq: message for message in held.messages if cadence.slot(message)}
    if newest:
        triggers[newest[1].seq] = newest[1]
    waiting = [triggers[seq] for seq in sorted(triggers) if seq > consumer.floor]
    if not consumer.exists or not _takes(consumer, held) or consumer.paused is not None or consumer.beyond:
        level = Level.CRITICAL
    else:
        level = thresholds.of_age(held.now - waiting[0].stored_at) if waiting else Level.OK
    return Backlog(consumer.name, level, len(waiting), waiting[0] if waiting else None)


def _takes(consumer: Consumer, held: "Held") -> bool:
    return not consumer.takes or takes(consumer.takes, held.subject)


def _consumer(consumer: Consumer, backlog: Backlog, held: "Held", cadence: Cadence) -> Finding:
    """Return the finding of one consumer."""
    who = f"consumer {consumer.name}"
    if not consumer.exists:
        return Finding(backlog.level, f"stream {held.config.get('name')} has no {who}{_others(consumer)}")
    if not _takes(consumer, held):
        return Finding(backlog.level, f"{who} does not take the subject {held.subject}")
    if consumer.paused is not None:
        return Finding(backlog.level, f"{who} is paused for another {approximate(consumer.paused)}")
    if consumer.beyond:
        text = f"{who} begins after sequence {consumer.floor}, beyond the end of the stream ({held.last_seq})"
        return Finding(backlog.level, f"{text}: until then it is given nothing")
    oldest = backlog.oldest
    if oldest is None:
        return Finding(backlog.level, f"{who} {_done(consumer)}")
    text = (
        f"{cadence.slot(oldest)} is in the stream (sequence {oldest.seq}); {who} has not acknowledged it for "
        f"{approximate(max(held.now - oldest.stored_at, timedelta(0)))}"
    )
    if consumer.idle:
        text += ", and it is delivered no more (max_deliver)"
    if backlog.unacknowledged > 1:
        text += f", and {backlog.unacknowledged - 1} more"
    return Finding(backlog.level, text)


def _done(consumer: Consumer) -> str:
    """Return what a consumer has done for which no trigger waits.

    Its floor also passes messages that were terminated or delivered too often, and begins where the consumer does.
    """
    if not consumer.begun:
        return f"has been given nothing yet: it begins after sequence {consumer.floor}"
    return "has processed every trigger" if consumer.acknowledges else "was given every trigger"


def _others(consumer: Consumer) -> str:
    if not consumer.others:
        return ""
    more = f" and {consumer.more} more" if consumer.more else ""
    return f"; it has {', '.join(consumer.others)}{more}"


def _named(slots: Sequence[Slot]) -> str:
    """Return the names of a few slots, or of the runs of many: `2026-11-23T09:00:00Z to 10:15:00Z (6 slots)`."""
    if len(slots) <= _MOST_SINGLE:
        return ", ".join(map(str, slots))
    every = slots[0].length
    found = [(Slot(first, every), Slot(last, every)) for first, last in runs([slot.start for slot in slots], every)]
    named = [_run(*run) for run in found[:_MOST_NAMED]]
    more = sum(_count(*run) for run in found[_MOST_NAMED:])
    return ", ".join(named) + (f" and {more} more" if more else "")


def _run(first: Slot, last: Slot) -> str:
    if first == last:
        return str(first)
    day = str(first)[: len("2026-11-23T")]
    return f"{first} to {str(last).removeprefix(day)} ({_count(first, last)} slots)"


def _count(first: Slot, last: Slot) -> int:
    return (last.start - first.start) // first.length + 1
