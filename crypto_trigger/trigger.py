"""The slot a run stands for, the message it sends, and what the stream gives back. Pure: time is an argument.

A slot is one period of the schedule, counted from the Unix epoch in UTC, so that time zones and daylight saving never
matter: all of the world's offsets are multiples of 15 minutes. A run belongs to a slot, and a slot has one trigger.

The values are named tuples, here and in the other modules that every run loads: a frozen dataclass takes three times as
long to define, and a run is so short that this shows.
"""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Self
from urllib.parse import quote

from crypto_trigger.errors import Outcome
from crypto_trigger.values import rfc3339

PAYLOAD = b'{"trigger":"update"}'
MSG_ID = "Nats-Msg-Id"
TIME = "ce-time"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
# What nats-server adds to a message of a schedule of its own (ADR-51), and to a delete marker (ADR-43).
_SCHEDULER = "Nats-Scheduler"
_MARKER = "Nats-Marker-Reason"
# Version ff and ids of zeros are invalid; version 00 ends with the flags, later ones may go on.
_TRACEPARENT = r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?"


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


class Trigger(NamedTuple):
    """The message of one slot, fixed before the first attempt: the same slot gives the same bytes."""

    slot: Slot
    subject: str
    msg_id: str
    headers: Mapping[str, str]
    payload: bytes = PAYLOAD
    force: bool = False

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
            "ce-id": _cloudevents(msg_id),
            "ce-source": source,
            "ce-type": _cloudevents(subject),
            TIME: str(slot),
            **(trace or {}),
        }
        return cls(slot, subject, msg_id, headers, force=bool(extra))


class Stored(NamedTuple):
    """A message as the stream holds it: sequence, time of storing (the server's clock), and the headers that count.

    `claimed` is its `ce-time`, `scheduler` tells that a schedule of the server's own stored it, and `marker` that the
    server left it in the place of messages that expired or were removed (`Nats-Marker-Reason`).
    """

    seq: int
    stored_at: datetime
    claimed: str | None = None
    msg_id: str | None = None
    scheduler: bool = False
    marker: bool = False

    @classmethod
    def with_headers(cls, seq: int, stored_at: datetime, headers: Mapping[str, object] | None) -> Self:
        """Return the message with these headers. What is not ASCII may come as another type than text."""
        found = headers or {}
        time, msg_id = found.get(TIME), found.get(MSG_ID)
        return cls(
            seq,
            stored_at,
            None if time is None else str(time),
            None if msg_id is None else str(msg_id),
            _SCHEDULER in found,
            _MARKER in found,
        )

    def slot(self, length: timedelta, early: timedelta) -> Slot | None:
        """Return the slot this message is the trigger of, or None if it is none.

        That is the slot of its `ce-time`, but never a later one than the slot it was stored in: a publisher whose clock
        is ahead fills no slot that is to come. A message stored up to `early` before a slot belongs to that slot, as a
        run does. Without a `ce-time` that is a time, and for what a schedule of the server's stores (ADR-51: it repeats
        the headers of the schedule word for word), the time of storing alone counts.
        """
        if self.marker:
            return None
        stored = Slot.containing(self.stored_at + early, length)
        claimed = None if self.scheduler else _parse_time(self.claimed)
        if claimed is None:
            return stored
        try:
            return min(stored, Slot.containing(claimed, length))
        except OverflowError:
            return stored


class Receipt(NamedTuple):
    """What became of a trigger that ended well: `published`, or the slot had one (`duplicate`), or a later slot has.

    Delivered by JetStream it has a stream and a sequence, and `guard` says what kept the slot to one trigger:
    `compare-and-set`, `msg-id` (for as long as the stream's duplicate window), or `none` (`--force`). The other
    deliveries guard nothing. By NATS Streaming it has a cluster and the client ID it was published under; by core NATS
    `subscriber` is True where somebody was found to listen. `later` is the slot that superseded this one.
    """

    outcome: Outcome
    server: str
    stream: str | None = None
    seq: int | None = None
    guard: str | None = None
    cluster: str | None = None
    client_id: str | None = None
    subscriber: bool | None = None
    later: Slot | None = None
    warnings: tuple[str, ...] = ()
    attempts: int = 1


class Timing(NamedTuple):
    """Which slot a run stands for: the one it was told (`scheduled_at`), its Kubernetes Job's, else that of the clock.

    `every` is the length of a slot; a run up to `early` before a slot belongs to it.
    """

    every: timedelta
    early: timedelta
    scheduled_at: datetime | None = None
    k8s_job: str | None = None

    def slot(self, now: datetime, *, decides: bool = True) -> Slot:
        """Return the slot, where the time is `now`; `decides` tells that this is the time that counts.

        A Job whose slot has not begun stands for the slot of `now`. Raises ValueError with what is wrong with
        `scheduled_at`: it lies before 1970, or its slot has not begun by the time that counts.
        """
        if self.scheduled_at:
            if self.scheduled_at < _EPOCH:
                raise ValueError("is before 1970, where slots begin")
            slot = Slot.containing(self.scheduled_at, self.every)
            if decides and slot.start > now + self.early:
                raise ValueError("is in a slot that has not begun")
            return slot
        minute = self._job_minute(now)
        if minute is not None:
            slot = Slot.containing(minute, self.every)
            if slot.start <= now + self.early:
                return slot
        return Slot.containing(max(now + self.early, _EPOCH), self.every)

    def warning(self, now: datetime) -> str:
        """Return what is wrong with the Job's name, or an empty text."""
        if self.scheduled_at or not self.k8s_job or self._job_minute(now) is not None:
            return ""
        return "has no scheduled minute at its end that is within a day of now; the clock decides the slot"

    def _job_minute(self, now: datetime) -> datetime | None:
        """Return the scheduled time in a CronJob's Job name, `<cronjob>-<minutes since the epoch>`.

        The form is Kubernetes' own since 1.23 and no documented interface (kubernetes#108609), so that a minute more
        than a day from `now` is taken for something else.
        """
        tail = (self.k8s_job or "").rpartition("-")[2]
        if not re.fullmatch(r"[0-9]{1,9}", tail):
            return None
        minute = _EPOCH + timedelta(minutes=int(tail))
        return minute if abs(minute - now) <= DAY else None


class Reading(NamedTuple):
    """One reading of the server's clock: its time, and this host's time before asking and after the answer."""

    server: datetime
    asked: datetime
    answered: datetime

    @property
    def skew(self) -> timedelta:
        """How far this host's clock is ahead of the server's (negative: behind), apart from the way of the answer."""
        if self.server < self.asked:
            return self.asked - self.server
        return min(self.answered - self.server, timedelta(0))


def trace_headers(traceparent: str | None, tracestate: str | None) -> dict[str, str]:
    """Return the W3C Trace Context headers to send on; an invalid traceparent is dropped, as the standard has it."""
    if not traceparent or not re.fullmatch(_TRACEPARENT, traceparent):
        return {}
    if not tracestate or not tracestate.isascii():
        return {"traceparent": traceparent}
    return {"traceparent": traceparent, "tracestate": tracestate}


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
