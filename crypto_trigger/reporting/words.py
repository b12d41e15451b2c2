"""Turn reports and results into lines and JSON objects. Decides nothing and prints nothing."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, assert_never

from crypto_trigger.errors import Outcome
from crypto_trigger.settings.values import Delivery
from crypto_trigger.slots.times import rfc3339

if TYPE_CHECKING:
    from crypto_trigger.reporting.report import Report

_GUARDS = {"msg-id": "; guarded by the msg id alone", "none": "; forced"}


def report_line(report: Report) -> str:  # noqa: PLR0911 - one for each kind of outcome
    """Return the result of a run for a person to read: one line, or several for several wrong settings."""
    match report.outcome:
        case Outcome.PUBLISHED:
            return f"published {_slot(report)} {_place(report)}{_tried(report)}{_GUARDS.get(report.guard or '', '')}"
        case Outcome.DUPLICATE:
            return f"duplicate: {_slot(report)} is already {_place(report)}{_tried(report)}"
        case Outcome.SUPERSEDED:
            return f"superseded: {_slot(report)} is not needed: {_later(report)}{_tried(report)}"
        case Outcome.DRY_RUN:
            return _dry_run(report)
        case Outcome.REHEARSED:
            return _rehearsed(report)
        case (
            Outcome.UNKNOWN
            | Outcome.REJECTED
            | Outcome.UNAVAILABLE
            | Outcome.PROTOCOL
            | Outcome.DENIED
            | Outcome.CONFIG
            | Outcome.INTERRUPTED
        ):
            return _reason(report)
        case Outcome.BUG:
            end = _perhaps(report, perhaps=True)
            return f"this is a bug in crypto-trigger; please report it with the lines above{end}"
        case _:
            assert_never(report.outcome)


def report_data(report: Report) -> dict[str, Any]:
    """Return the result of a run as a JSON object; keys that do not apply are absent."""
    data = report._asdict()
    for key, value in data.items():
        if isinstance(value, datetime):
            data[key] = rfc3339(value)
    if report.error:
        data["error"] = report.error.data
    return {key: value for key, value in data.items() if value is not None}


def _slot(report: Report) -> str:
    return f"{report.subject} for {_moment(report.scheduled_at)}"


def _moment(moment: datetime | None) -> str:
    return rfc3339(moment) if moment else "no slot"


def _later(report: Report) -> str:
    return f"the later trigger of {_moment(report.superseded_by)} is {_place(report)}"


def _tried(report: Report) -> str:
    return f" after {report.attempts} attempts" if (report.attempts or 1) > 1 else ""


def _place(report: Report) -> str:
    """Return where the trigger is stored, or who it was sent to."""
    match report.delivery:
        case Delivery.JETSTREAM:
            if report.seq is None:
                return f"in stream {report.stream}"
            return f"in stream {report.stream}, sequence {report.seq}"
        case Delivery.STREAMING:
            return f"in NATS Streaming cluster {report.cluster}"
        case Delivery.CORE:
            return "to a subscriber that listens" if report.subscriber else "to whoever listens"
        case None:
            return "nowhere"
        case _:
            assert_never(report.delivery)


def _dry_run(report: Report) -> str:
    from crypto_trigger.slots.trigger import PAYLOAD

    match report.delivery:
        case Delivery.JETSTREAM:
            place = f"stream {report.stream}"
        case Delivery.STREAMING:
            place = f"NATS Streaming cluster {report.cluster}"
        case Delivery.CORE | None:
            place = "no stream"
        case _:
            assert_never(report.delivery)
    return (
        f"dry run: would publish {PAYLOAD.decode()} to {_slot(report)} "
        f"(msg id {report.msg_id}, {place}, {', '.join(report.servers or ())})"
    )


def _rehearsed(report: Report) -> str:
    """Return what a rehearsal has shown, and how far it went."""
    tried = _tried(report)
    up_to = f"rehearsed up to the publish{tried}: {report.server}"
    match report.delivery:
        case Delivery.JETSTREAM | None:
            return f"rehearsed{tried}: {_would_be(report)}{_GUARDS.get(report.guard or '', '')}; nothing was stored"
        case Delivery.STREAMING:
            accepted = f"takes the client in NATS Streaming cluster {report.cluster}"
        case Delivery.CORE:
            accepted = "takes the client"
        case _:
            assert_never(report.delivery)
    return f"{up_to} {accepted}; {_slot(report)} was not sent, so whether it would be taken is not known"


def _would_be(report: Report) -> str:
    """Return what a publish would have come to."""
    if report.seq is None:
        return f"{_slot(report)} would be published in stream {report.stream} on {report.server}"
    permitted = f"{report.server} permits publishing"
    if report.superseded_by is None:
        return f"{permitted}, but {_slot(report)} is already {_place(report)}"
    return f"{permitted}, but {_slot(report)} is not needed: {_later(report)}"


def _reason(report: Report) -> str:
    """Return why a run failed, what to do about it, and, for a publish, whether its trigger may be stored."""
    error = report.error
    if error is None:
        return str(report.outcome)
    said = f"{error.message}; {error.hint}" if error.hint else error.message
    if report.rehearsal and report.scheduled_at is not None and not error.perhaps:
        return f"{said}; {_slot(report)} was rehearsed, and nothing was stored"
    return f"{said}{_perhaps(report, perhaps=error.perhaps or False)}"


def _perhaps(report: Report, *, perhaps: bool) -> str:
    """Return whether the trigger may be stored, as the end of a line; an empty text where there is no trigger."""
    if report.scheduled_at is None:
        return ""
    match report.delivery:
        case Delivery.CORE:
            end = "may have been delivered" if perhaps else "was not delivered"
        case Delivery.JETSTREAM | Delivery.STREAMING | None:
            end = "may be stored" if perhaps else "was not stored"
        case _:
            assert_never(report.delivery)
    return f"; {_slot(report)} {end}"
