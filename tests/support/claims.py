"""What runs claim with their statuses and reports, held against what the stream holds."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

STORED, NOT_STORED, UNKNOWN = 0, 69, 75
# Statuses that say: the trigger is not in the stream.
_REFUSED = (65, NOT_STORED, 76, 77, 78)


class Run(NamedTuple):
    """One `publish --json` that ended. `client_id` is of this run alone, so that its message tells who stored it."""

    client_id: str
    slot: str
    status: int
    report: dict[str, object]


def lie(run, messages):
    """How the run's status contradicts the messages of its stream; an empty text where it does not."""
    if run.status not in {STORED, NOT_STORED, UNKNOWN}:
        # A cluster that loses servers and nothing else gives no cause for any other.
        return f"ended {run.status}, for which there was no cause"
    if run.status == NOT_STORED and any(storer(message) == run.client_id for message in messages):
        return "ended 69, and its message is stored"
    return _false_receipt(run, messages) if run.status == STORED else ""


def _false_receipt(run, messages):
    outcome, seq = run.report.get("outcome"), run.report.get("seq")
    said = f"ended 0 ({outcome}, sequence {seq})"
    held = next((message for message in messages if message.seq == seq), None)
    if held is None:
        return f"{said}, which holds nothing"
    slot = held.headers["ce-time"]
    # RFC 3339 in UTC: the later time is the greater text.
    if slot < run.slot or (slot > run.slot) != (outcome == "superseded"):
        return f"{said}, which holds the message of {slot}"
    if outcome == "published" and storer(held) != run.client_id:
        return f"{said}, which holds the message of {storer(held)}"
    return ""


def lie_about_slot(status, held, trigger):
    """How a status contradicts what the stream holds of its slot, where only `trigger` is foreseen; else ""."""
    if strange := [message for message in held if message != trigger]:
        return f"the stream holds something else than the slot's trigger: {strange}"
    if len(held) > 1:
        return f"the slot holds {len(held)} triggers"
    if status == STORED:
        return "" if held else "status 0, and the slot holds no trigger"
    if status in _REFUSED:
        return f"status {status}, and the slot holds a trigger" if held else ""
    return "" if status == UNKNOWN else f"status {status} is not foreseen"


def per_slot(messages):
    """How many messages each slot has."""
    return Counter(message.headers["ce-time"] for message in messages)


def storer(message):
    """The client ID of the run that stored a message."""
    return message.headers["ce-source"].rpartition("/")[2]
