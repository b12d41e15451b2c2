"""Show a trigger that has arrived: as a line, or as a JSON object. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from crypto_trigger.masking import escaped, masked
from crypto_trigger.values import approximate, rfc3339_milliseconds

if TYPE_CHECKING:
    from crypto_trigger.arrival import Arrival

# How much of a payload a line shows, in characters; one of so many bytes is shown whole.
_SHOWN = 200


def arrival_line(arrival: Arrival) -> str:
    """Return a trigger that has arrived as one line for a person to read. A long payload is cut."""
    side = "before" if arrival.lateness < timedelta(0) else "after"
    when = f"{approximate(abs(arrival.lateness))} {side} its slot began"
    place = f"received {when}" if arrival.seq is None else f"sequence {arrival.seq}, stored {when}"
    by = f" by {arrival.source}" if arrival.source else ""
    return escaped(f"{arrival.subject} for {arrival.slot}: {place}{by}: {_beginning(arrival.payload)}") + (
        f"... ({len(arrival.payload)} bytes)" if len(arrival.payload) > _SHOWN else ""
    )


def arrival_data(arrival: Arrival) -> dict[str, Any]:
    """Return a trigger that has arrived as a JSON object. Every key is there; one that does not apply is null."""
    return {
        "subject": arrival.subject,
        "slot": str(arrival.slot),
        "seq": arrival.seq,
        "stored": None if arrival.seq is None else rfc3339_milliseconds(arrival.time),
        "lateness_seconds": round(arrival.lateness.total_seconds(), 3),
        "source": arrival.source,
        "payload": _payload(arrival.payload),
    }


def _payload(payload: bytes) -> str:
    r"""Return a payload as text; a byte that is not UTF-8 is written as `\xff`."""
    return payload.decode(errors="backslashreplace")


def _beginning(payload: bytes) -> str:
    """Return a payload as text, cut if it is long; secrets are masked before, because the half of one is shown."""
    text = _payload(payload)
    return text if len(payload) <= _SHOWN else masked(text)[:_SHOWN]
