"""The slot a run stands for, the message it sends, and what the stream gives back. Pure: time is an argument.

A slot is one period of the schedule, counted from the Unix epoch in UTC, so that time zones and daylight saving never
matter: all of the world's offsets are multiples of 15 minutes. A run belongs to a slot, and a slot has one trigger.

The values are named tuples, here and in the other rooms that every run enters: a frozen dataclass takes three times as
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
# How far a time that somebody else wrote down may lie from the clock before it is not believed.
_PLAUSIBLE = timedelta(days=1)
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

        `extra` makes a trigger apart from the slot's own, with a msg id of its own: what `--force` sends.
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
    """A message as the stream holds it: its sequence, when it was stored, and the slot time its headers claim."""

    seq: int
    stored_at: datetime
    time_header: str | None = None

    def slot(self, length: timedelta, early: timedelta) -> Slot:
        """Return the slot this message is the trigger of: that of its `ce-time`, else of the time it was stored.

        Another publisher's message stored up to `early` before a slot belongs to it, as a run of ours would. A
        `ce-time` more than a day ahead of the storing is not believed: it would silence every slot until then.
        """
        claimed = _parse_time(self.time_header)
        if claimed and _EPOCH <= claimed <= self.stored_at + _PLAUSIBLE:
            return Slot.containing(claimed, length)
        return Slot.containing(self.stored_at + early, length)


class Receipt(NamedTuple):
    """What became of a trigger that ended well: `published`, or the slot had one (`duplicate`), or a later slot has.

    Delivered by JetStream it has a stream and a sequence, and `guard` says what kept the slot to one trigger:
    `compare-and-set`, `msg-id` (for as long as the stream's duplicate window), or `none` (`--force`). The other
    deliveries guard nothing. By NATS Streaming it has a cluster and the client ID it was published under; by core NATS
    `subscriber` is True where somebody was found to listen.
    """

    outcome: Outcome
    server: str
    stream: str | None = None
    seq: int | None = None
    guard: str | None = None
    cluster: str | None = None
    client_id: str | None = None
    subscriber: bool | None = None
    warnings: tuple[str, ...] = ()
    attempts: int = 1


def slot_of_run(
    now: datetime,
    every: timedelta,
    early: timedelta,
    scheduled_at: datetime | None,
    k8s_job: str | None,
) -> tuple[Slot, str]:
    """Return the slot a run stands for, and a warning if the time it was given is not usable (else an empty text).

    An explicit time wins, then the minute in the Kubernetes Job's name, then the clock. Raises ValueError for an
    explicit time more than a day ahead: its trigger would supersede every slot until then.
    """
    if scheduled_at:
        if scheduled_at - now > _PLAUSIBLE:
            raise ValueError("is more than a day ahead; a trigger for it would silence every slot until then")
        return Slot.containing(scheduled_at, every), ""
    warning = ""
    if k8s_job:
        minute = _minute_in_job_name(k8s_job)
        if minute is not None and abs(minute - now) <= _PLAUSIBLE:
            return Slot.containing(minute, every), ""
        warning = "has no scheduled minute at its end that is within a day of now; the clock decides the slot"
    return Slot.containing(now + early, every), warning


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


def _minute_in_job_name(job: str) -> datetime | None:
    """Return the scheduled time in a CronJob's Job name, `<cronjob>-<minutes since the epoch>`.

    The form is Kubernetes' own since 1.23 and no documented interface (kubernetes#108609), hence the check for
    plausibility where it is used.
    """
    tail = job.rpartition("-")[2]
    if not re.fullmatch(r"[0-9]{1,9}", tail):
        return None
    return _EPOCH + timedelta(minutes=int(tail))


def _parse_time(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _cloudevents(value: str) -> str:
    """Percent-encode a header value as the CloudEvents protocol bindings ask (HTTP binding 1.0.2, section 3.1.3.2)."""
    return "".join(c if "!" <= c <= "~" and c not in '"%' else quote(c) for c in value)
