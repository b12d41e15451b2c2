"""Times and durations: read them as Go and RFC 3339 write them, and write them. Pure.

Every parser takes the text as it was given and raises `ValueError` with what is wrong and what to write instead. The
message never repeats the text, because it may be a secret.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

# In microseconds, the resolution of a timedelta.
_UNITS = {
    "ns": 0.001,
    "us": 1,
    "µs": 1,  # U+00B5; the next one is U+03BC. Go accepts both
    "μs": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    # Not in Go; the nats CLI accepts them.
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}


_NUMBER = "0123456789."


_LETTERS = "".join(_UNITS)


# Patterns are compiled where they are used: a run without credentials does not need theirs.
_RFC3339 = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"


# Reading a duration or a time takes time that grows with the square of the length.
_LONGEST_DURATION = 1000


_LONGEST_TIME = 100


LATEST = datetime.max.replace(tzinfo=UTC)


# Where a 64-bit count of nanoseconds ends: Python 3.11 and 3.12 show later times as this one, 3.13 raises an error.
_END_OF_COUNT = datetime(2262, 4, 11, 23, 47, 16, tzinfo=UTC)


def duration(raw: str) -> timedelta:
    """Return the length of time written as Go's `time.ParseDuration` reads it, or in days and weeks: `1h30m`, `7d`.

    It must be more than zero and at most 8760h (a year). Fractions of a microsecond are lost.
    """
    # Without a pattern: every run reads seven durations, and to compile one takes longer than to read them all.
    try:
        total = timedelta(microseconds=_microseconds(raw))
    except OverflowError:
        total = timedelta.max
    except (ValueError, KeyError):
        raise ValueError("is not a duration; write it like 500ms, 15m, 1h30m or 7d") from None
    if not timedelta(0) < total <= timedelta(hours=8760):
        raise ValueError("must be more than 0s and at most 8760h")
    return total


def _microseconds(raw: str) -> float:
    """Return the sum of the numbers with units in a text. Raises ValueError or KeyError if it is something else."""
    if not 0 < len(raw) <= _LONGEST_DURATION:
        raise ValueError
    total = 0.0
    while raw:
        rest = raw.lstrip(_NUMBER)
        number, after = raw[: len(raw) - len(rest)], rest.lstrip(_LETTERS)
        total += float(number) * _UNITS[rest[: len(rest) - len(after)]]
        raw = after
    return total


def tolerance(raw: str) -> timedelta:
    """Return a duration as `duration` does; `0s` and `0` are allowed as well."""
    return timedelta(0) if raw in ("0", "0s") else duration(raw)


def format_duration(length: timedelta) -> str:
    """Return `length` in the notation `duration` reads, shortest form: `15m`, `1h30m`, `250ms`."""
    microseconds = round(length / timedelta(microseconds=1))
    parts = []
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)):
        count, microseconds = divmod(microseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def approximate(length: timedelta) -> str:
    """Return a duration for a person to read: to a tenth of a second below a minute, else to the second."""
    seconds = length.total_seconds()
    return f"{seconds:.1f}s" if abs(seconds) < 60 else format_duration(timedelta(seconds=round(seconds)))  # noqa: PLR2004


def slot_length(raw: str) -> timedelta:
    """Return a slot's length: a duration of whole seconds, because a slot's start is written in whole seconds."""
    length = duration(raw)
    if length % timedelta(seconds=1):
        raise ValueError("must be a whole number of seconds")
    return length


def instant(raw: str) -> datetime:
    """Return an RFC 3339 time, converted to UTC: `2026-11-23T17:45:00Z`, `2026-11-23T18:45:00+01:00`."""
    if len(raw) > _LONGEST_TIME or not re.fullmatch(_RFC3339, raw):
        raise ValueError("is not an RFC 3339 time; write it like 2026-11-23T17:45:00Z")
    try:
        return datetime.fromisoformat(raw.upper().replace(" ", "T")).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("is not a date and time that exists") from None


def now() -> datetime:
    """Return the time of this host's clock, in UTC; `LATEST` for a clock beyond what Python can count (year 2262)."""
    try:
        moment = datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        return LATEST
    return moment if moment < _END_OF_COUNT else LATEST


def rfc3339(moment: datetime) -> str:
    """Return a time in RFC 3339 format, in UTC and in whole seconds: `2026-11-23T17:45:00Z`."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def rfc3339_milliseconds(moment: datetime) -> str:
    """Return a time as `rfc3339` does, with milliseconds: `2026-11-23T17:45:00.123Z`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
