"""The slot of a run, the message it sends, and the receipt it gets. Pure: the time is an argument.

A slot is one period of the schedule, counted from the Unix epoch in UTC. Time zones and daylight saving do not matter,
because all UTC offsets in the world are multiples of 15 minutes. A run belongs to a slot, and a slot has one trigger.

The values that are shown or compared are named tuples, here and in the other modules that every run loads; the others
are plain classes whose attributes are final. A frozen dataclass takes three times as long to define as a named tuple,
and fifty times as long as a plain class, which is noticeable in such a short run.
"""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self
from urllib.parse import quote

from crypto_trigger.errors import Outcome
from crypto_trigger.slots.times import rfc3339

PAYLOAD = b'{"trigger":"update"}'
MSG_ID = "Nats-Msg-Id"
EVENT_ID = "ce-id"
TIME = "ce-time"
SOURCE = "ce-source"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
# How long before the end of its slot a run ends: this long, but no more than this part of a slot.
_MARGIN, _MARGIN_PARTS = timedelta(seconds=1), 20
# Digits. A number of minutes with so many is beyond the calendar.
_TOO_LONG_FOR_MINUTES = 10
# What nats-server adds to a message of its message scheduler (ADR-51), and to a delete marker (ADR-43).
_SCHEDULER = "Nats-Scheduler"
_MARKER = "Nats-Marker-Reason"


class Slot(NamedTuple):
    """The period a run stands for: its start (UTC) and its length. `str()` is the start in RFC 3339."""

    start: datetime
    length: timedelta

    @classmethod
    def containing(cls, moment: datetime, length: timedelta) -> Self:
        """Return the slot that `moment` falls in. Raises OverflowError beyond the calendar's ends."""
        return cls(_EPOCH + (moment - _EPOCH) // length * length, length)

    def __str__(self) -> str:
        return rfc3339(self.start)


class Trigger:
    """The message of one slot. All attempts of a run send the same bytes."""

    payload: Final = PAYLOAD

    def __init__(
        self, slot: Slot, subject: str, msg_id: str, headers: Mapping[str, str], *, force: bool = False
    ) -> None:
        self.slot: Final = slot
        self.subject: Final = subject
        self.msg_id: Final = msg_id
        self.headers: Final = headers
        self.force: Final = force

    def __repr__(self) -> str:
        return f"Trigger({self.msg_id})"

    @classmethod
    def for_slot(
        cls,
        slot: Slot,
        subject: str,
        source: str,
        trace: Mapping[str, str] | None = None,
        extra: str = "",
    ) -> Self:
        """Return the trigger of `slot` on `subject`, with CloudEvents headers in binary mode (CloudEvents 1.0.2).

        `extra` is added to the msg id, for a trigger beside the slot's own: what `--force` sends.
        """
        msg_id = f"{subject}:{slot}" + (f":{extra}" if extra else "")
        headers = {
            MSG_ID: msg_id,
            "ce-specversion": "1.0",
            EVENT_ID: _cloudevents(msg_id),
            SOURCE: source,
            "ce-type": _cloudevents(subject),
            TIME: str(slot),
            **(trace or {}),
        }
        return cls(slot, subject, msg_id, headers, force=bool(extra))


class Stored(NamedTuple):
    """A message in the stream: its sequence, the time it was stored (the server's clock), and the headers that matter.

    `claimed` is its `ce-time`, `source` its `ce-source`. `scheduler` is true if the server's message scheduler stored
    it, `marker` if the server put it in place of messages that expired or were removed (`Nats-Marker-Reason`).
    """

    seq: int
    stored_at: datetime
    claimed: str | None = None
    msg_id: str | None = None
    scheduler: bool = False
    marker: bool = False
    source: str | None = None

    @classmethod
    def with_headers(cls, seq: int, stored_at: datetime, headers: Mapping[str, object] | None) -> Self:
        """Return the message with these headers. A value that is not ASCII may have another type than `str`."""
        found = headers or {}
        time, msg_id, source = found.get(TIME), found.get(MSG_ID), found.get(SOURCE)
        return cls(
            seq,
            stored_at,
            None if time is None else str(time),
            None if msg_id is None else str(msg_id),
            _SCHEDULER in found,
            _MARKER in found,
            None if source is None else str(source),
        )

    def slot(self, length: timedelta, early: timedelta) -> Slot | None:
        """Return the slot whose trigger this message is, or None if it is not a trigger.

        It is the slot of its `ce-time`, but never a later slot than the one it was stored in: a publisher whose clock
        is ahead cannot fill a future slot. A message stored up to `early` before a slot belongs to that slot, as a
        run does. Only the time of storing counts if there is no valid `ce-time`, or if the server's message scheduler
        stored the message: it copies the headers of the schedule unchanged (ADR-51).
        """
        if self.marker:
            return None
        stored = Slot.containing(self.stored_at + early, length)
        return min(stored, self.claimed_slot(length) or stored)

    def claimed_slot(self, length: timedelta) -> Slot | None:
        """Return the slot of its `ce-time`, or None if that is not valid or is a schedule's."""
        claimed = None if self.scheduler else _parse_time(self.claimed)
        try:
            return Slot.containing(claimed, length) if claimed else None
        except OverflowError:
            return None

    def is_ahead(self, now: datetime, length: timedelta, early: timedelta) -> bool:
        """Tell whether the server's clock has gone back since it stored this message; `now` is its time.

        Then the message was stored more than `early` after `now`, and in a later slot than the present one. It says
        nothing about the slots that have begun by `now`, unless it is the trigger of one of them.
        """
        present = Slot.containing(now + early, length)
        stored = Slot.containing(self.stored_at + early, length)
        return self.in_future(now, early) and stored.start > present.start

    def in_future(self, now: datetime, early: timedelta) -> bool:
        """Tell whether this message was stored more than `early` after `now`, the server's time."""
        return self.stored_at - now > early


class Receipt:
    """The result of a successful delivery: `published`, `duplicate` (the slot had its trigger) or `superseded`.

    `superseded` means that a later slot has its trigger: `later` is that slot. JetStream gives a sequence; `guard`
    says what made sure that the slot has one trigger: `compare-and-set`, `msg-id` (only within the stream's
    duplicate window), or `none` (`--force`). NATS Streaming gives the client ID that published. With
    core NATS `subscriber` is True if the server confirmed a subscriber. These two deliveries have no guard.
    """

    def __init__(
        self,
        outcome: Outcome,
        server: str,
        seq: int | None = None,
        guard: str | None = None,
        client_id: str | None = None,
        subscriber: bool | None = None,
        later: Slot | None = None,
        warnings: tuple[str, ...] = (),
        attempts: int = 1,
    ) -> None:
        self.outcome: Final = outcome
        self.server: Final = server
        self.seq: Final = seq
        self.guard: Final = guard
        self.client_id: Final = client_id
        self.subscriber: Final = subscriber
        self.later: Final = later
        self.warnings: Final = warnings
        self.attempts: Final = attempts

    def after(self, attempts: int) -> Self:
        """Return the receipt of a delivery that took so many attempts."""
        return type(self)(**{**vars(self), "attempts": attempts})

    def warned(self, *warnings: str) -> Self:
        """Return the receipt with these warnings after its own."""
        return type(self)(**{**vars(self), "warnings": (*self.warnings, *warnings)})


class Timing:
    """Which slot a run stands for: that of `scheduled_at`, else that of its Kubernetes Job, else that of the clock.

    `every` is the length of a slot; a run up to `early` before a slot belongs to it.
    """

    def __init__(
        self, every: timedelta, early: timedelta, scheduled_at: datetime | None = None, k8s_job: str | None = None
    ) -> None:
        self.every: Final = every
        self.early: Final = early
        self.scheduled_at: Final = scheduled_at
        self.k8s_job: Final = k8s_job

    def slot(self, now: datetime, *, decides: bool = True, waited: timedelta = timedelta(0)) -> Slot:
        """Return the slot at the time `now`; `decides` is true if `now` is of the clock that decides.

        A Job whose slot has not begun stands for the slot of `now`. `waited` is how long the run has lasted at `now`:
        only a run that starts up to `early` before a slot belongs to that slot, not one that has waited until then.
        Raises ValueError with what is wrong with `scheduled_at`: it lies before 1970, or its slot has not begun by the
        time that counts.
        """
        if self.scheduled_at:
            if self.scheduled_at < _EPOCH:
                raise ValueError("is before 1970, where slots begin")
            slot = Slot.containing(self.scheduled_at, self.every)
            if decides and slot.start > now + self.early:
                raise ValueError("is in a slot that has not begun")
            return slot
        early = max(self.early - max(waited, timedelta(0)), timedelta(0))
        return self._job_slot(now) or Slot.containing(max(now + early, _EPOCH), self.every)

    def time_left(self, now: datetime) -> timedelta | None:
        """Return how long a run that starts at `now` may last if it goes by the clock, or None if it does not.

        It ends a second before its slot does (a twentieth of a slot, if that is less), so that it is gone when the next
        one starts. A run that starts later than that has that second all the same.
        """
        if self.scheduled_at or self._job_slot(now):
            return None
        margin = min(_MARGIN, self.every / _MARGIN_PARTS)
        return max(self.slot(now).start + self.every - margin - now, margin)

    def _job_slot(self, now: datetime) -> Slot | None:
        """Return the slot of the Job's name, or None if there is none or it has not begun."""
        minute = self._job_minute(now)
        slot = None if minute is None else Slot.containing(minute, self.every)
        return slot if slot and slot.start <= now + self.early else None

    def warning(self, now: datetime) -> str:
        """Return what is wrong with the Job's name, or an empty text."""
        if self.scheduled_at or not self.k8s_job or self._job_minute(now) is not None:
            return ""
        return "has no scheduled minute at its end that is within a day of now; the clock decides the slot"

    def _job_minute(self, now: datetime) -> datetime | None:
        """Return the scheduled time in a CronJob's Job name, `<cronjob>-<minutes since the epoch>`.

        Kubernetes names Jobs like this since 1.23, but it is not a documented interface (kubernetes#108609). So a
        minute more than a day from `now` is not taken for a scheduled time.
        """
        tail = (self.k8s_job or "").rpartition("-")[2]
        if not (tail.isascii() and tail.isdecimal() and len(tail) < _TOO_LONG_FOR_MINUTES):
            return None
        minute = _EPOCH + timedelta(minutes=int(tail))
        return minute if abs(minute - now) <= DAY else None


class Reading:
    """One reading of the server's clock: its time, and this host's time before the request and after the answer."""

    def __init__(self, server: datetime, asked: datetime, answered: datetime) -> None:
        self.server: Final = server
        self.asked: Final = asked
        self.answered: Final = answered

    @property
    def skew(self) -> timedelta:
        """The least time this host's clock is ahead of the server's (negative: behind), whatever the network delay."""
        if self.server < self.asked:
            return self.asked - self.server
        return min(self.answered - self.server, timedelta(0))


def trace_headers(traceparent: str | None, tracestate: str | None) -> dict[str, str]:
    """Return the W3C Trace Context headers to pass on. Without a traceparent there is no tracestate, either (3.3)."""
    if not traceparent:
        return {}
    return {"traceparent": traceparent, **({"tracestate": tracestate} if tracestate else {})}


def source_of(client_id: str, host: str) -> str:
    """Return the CloudEvents source, a URI reference: `//<host>/<client ID>`."""
    return f"//{quote(host, safe='')}/{quote(client_id, safe='')}"


def _parse_time(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _cloudevents(value: str) -> str:
    """Percent-encode a header value as the CloudEvents protocol bindings ask (HTTP binding 1.0.2, section 3.1.3.2)."""
    return "".join(c if "!" <= c <= "~" and c not in '"%' else quote(c) for c in value)


# The source of what the server's message scheduler stores: the headers are those of the schedule.
SCHEDULE = "nats-schedule"


def source(message: Stored) -> str | None:
    """Return who published a message: its `ce-source`, or `nats-schedule`; None if it does not say."""
    return SCHEDULE if message.scheduler else message.source
