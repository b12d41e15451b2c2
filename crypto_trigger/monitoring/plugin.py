"""The answer of `check` in its three formats: a line for Nagios, a JSON object, metrics for Prometheus.

Pure: prints nothing and decides nothing.
"""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import starmap
from typing import TYPE_CHECKING, Any, NamedTuple

from crypto_trigger.monitoring.coverage import State, known_since
from crypto_trigger.monitoring.verdict import Backlog, CheckResult, Finding, Level
from crypto_trigger.reporting.prometheus import gauge, label
from crypto_trigger.slots.times import rfc3339_milliseconds

if TYPE_CHECKING:
    from crypto_trigger.reporting.report import Failure

_SECOND = timedelta(seconds=1)


class Answer(NamedTuple):
    """What a check came to: its level, its findings, and either the result or why there is none.

    `stream` and `subject` are those of the settings, or empty if the settings could not be read.
    """

    level: Level
    findings: tuple[Finding, ...]
    stream: str = ""
    subject: str = ""
    result: CheckResult | None = None
    failure: "Failure | None" = None


class Performance(NamedTuple):
    """One value of the performance data: a label, a value with so many decimals, a unit, thresholds, a minimum.

    The value is None if it is not known. A threshold counts for values above it, with `counted` from it on.
    """

    name: str
    value: float | None
    decimals: int = 0
    unit: str = ""
    warning: float | None = None
    critical: float | None = None
    minimum: float | None = None
    counted: bool = False


def nagios(answer: Answer) -> str:
    """Return one line: the status, the reasons for it, and performance data (Monitoring Plugins guidelines).

    The worst findings come first; what is as it should be is left out if there is anything else.
    """
    ordered = sorted(answer.findings, key=lambda finding: -finding.level)
    bad = [finding for finding in ordered if finding.level]
    # `|` begins the performance data.
    text = "; ".join(finding.text for finding in bad or ordered).replace("|", "/").replace("\n", "; ")
    data = " ".join(map(_item, _performance(answer.result))) if answer.result else ""
    return f"TRIGGER {answer.level.name} - {text}{f' | {data}' if data else ''}"


def data(answer: Answer) -> dict[str, Any]:
    """Return a JSON object: the keys of the nats CLI's checks, and more. Keys that do not apply are absent."""
    found: dict[str, Any] = {"status": answer.level.name, "check_suite": "crypto-trigger", "check_name": "trigger"}
    for level in (Level.UNKNOWN, Level.CRITICAL, Level.WARNING, Level.OK):
        if texts := [finding.text for finding in answer.findings if finding.level is level]:
            found[level.name.lower()] = texts
    found |= {"stream": answer.stream, "subject": answer.subject}
    if answer.result:
        found |= _details(answer.result)
    if answer.failure:
        found["error"] = answer.failure.data
    return {key: value for key, value in found.items() if value not in ("", None)}


def _details(result: CheckResult) -> dict[str, Any]:
    newest, since = None, known_since(result.entries)
    if result.newest:
        slot, trigger = result.newest
        newest = {"slot": str(slot), "stored": rfc3339_milliseconds(trigger.stored_at), "seq": trigger.seq}
        newest |= {"source": trigger.source} if trigger.source else {}
    return {
        "perf_data": [
            {
                "name": value.name,
                "value": round(value.value, 3),
                "warning": value.warning or 0,
                "critical": value.critical or 0,
                **({"unit": value.unit} if value.unit else {}),
            }
            for value in _performance(result)
            if value.value is not None
        ],
        "server_time": rfc3339_milliseconds(result.now),
        "skew_seconds": None if result.skew is None else round(result.skew / _SECOND, 3),
        "newest": newest,
        "known_since": str(since) if since else None,
        "missed": [str(slot) for slot in result.slots(State.MISSED)],
        "overdue": [str(slot) for slot in result.slots(State.OVERDUE)],
        "late": [str(slot) for slot in result.slots(State.LATE)],
        "surplus": result.surplus,
        "consumers": [_consumer(backlog) for backlog in result.backlogs],
    }


def _consumer(backlog: Backlog) -> dict[str, Any]:
    found: dict[str, Any] = {"name": backlog.consumer, "unacknowledged": backlog.unacknowledged}
    if backlog.oldest:
        found["oldest"] = rfc3339_milliseconds(backlog.oldest.stored_at)
    return {**found, "state": backlog.level.name}


def prometheus(answer: Answer, time: datetime) -> str:
    """Return metrics in Prometheus' text format; what is not known is left out. `time` is when the check ended.

    Times are timestamps, so that a rule can tell how old they are when it is evaluated, and not when they were written.
    """
    labels = {"stream": answer.stream, "subject": answer.subject}
    meaning = "When the check ended, by the clock of the checking host."
    lines = [
        *_metric("check_status", "Result of the check: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.", labels, answer.level),
        *_metric("check_timestamp_seconds", meaning, labels, round(time.timestamp(), 3)),
    ]
    result = answer.result
    if result:
        if result.newest:
            start = result.newest[0].start.timestamp()
            lines += _metric("newest_slot_timestamp_seconds", "Start of the newest slot with a trigger.", labels, start)
        missed, late, surplus = _counts(result)
        unknown = "Slots that may have had a trigger which the stream has removed."
        for name, meaning, value in (
            ("expected_slots", "Slots that should have their trigger.", result.due),
            ("unknown_slots", unknown, len(result.slots(State.UNKNOWN))),
            ("missed_slots", "Finished slots without a trigger.", missed),
            ("late_slots", "Slots whose trigger was stored after the grace.", late),
            ("surplus_triggers", "Triggers beyond one per slot.", surplus),
        ):
            if value is not None:
                lines += _metric(f"window_{name}", meaning, labels, value)
        if missed_slots := result.slots(State.MISSED):
            # An alert names it. `newest_slot_timestamp_seconds` does not tell of a slot that was missed before it.
            name, meaning = "window_newest_missed_slot_timestamp_seconds", "Start of the newest slot that was missed."
            lines += _metric(name, meaning, labels, missed_slots[-1].start.timestamp())
        if result.skew is not None:
            meaning = "How far the clock of the checking host is ahead of the server's."
            lines += _metric("clock_skew_seconds", meaning, labels, round(result.skew / _SECOND, 6))
        lines += _consumer_metrics(result, labels)
    return "\n".join(lines)


def _consumer_metrics(result: CheckResult, labels: dict[str, str]) -> Iterator[str]:
    name, oldest = "consumer_unacknowledged_triggers", "consumer_oldest_unacknowledged_timestamp_seconds"
    for number, backlog in enumerate(result.backlogs):
        own = {**labels, "consumer": backlog.consumer}
        meaning = "Triggers of the window that the consumer has not acknowledged."
        yield from _metric(name, meaning, own, backlog.unacknowledged, describe=not number)
    waiting = [(backlog, backlog.oldest) for backlog in result.backlogs if backlog.oldest]
    for number, (backlog, trigger) in enumerate(waiting):
        own = {**labels, "consumer": backlog.consumer}
        meaning = "When the oldest trigger was stored that the consumer has not acknowledged."
        yield from _metric(oldest, meaning, own, round(trigger.stored_at.timestamp(), 3), describe=not number)


def _metric(name: str, meaning: str, labels: dict[str, str], value: float, *, describe: bool = True) -> Iterator[str]:
    written = f"{value:.6f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"
    return gauge(name, meaning, ",".join(starmap(label, labels.items())), written, describe=describe)


def _performance(result: CheckResult) -> Iterator[Performance]:
    thresholds = result.thresholds
    if result.newest:
        yield Performance("age", _age(result.newest[1].stored_at, result.now), 1, "s")
    missed, late, surplus = _counts(result)
    yield Performance("missed", missed, 0, "", thresholds.missed_warn, thresholds.missed_critical, 0, counted=True)
    yield Performance("late", late)
    yield Performance("surplus", surplus)
    if result.skew is not None:
        yield Performance("skew", result.skew / _SECOND, 2, "s")
    for backlog in result.backlogs:
        yield Performance(f"{backlog.consumer}_unacknowledged", backlog.unacknowledged)
        age = _age(backlog.oldest.stored_at, result.now) if backlog.oldest else 0.0
        warn, critical = thresholds.consumer_warn / _SECOND, thresholds.consumer_critical / _SECOND
        yield Performance(f"{backlog.consumer}_age", age, 1, "s", warn, critical, 0)


def _counts(result: CheckResult) -> tuple[int | None, int | None, int | None]:
    """Return how many slots were missed and late, and how many triggers were surplus.

    None stands for no known one in a window of which not all slots are known.
    """
    found = len(result.slots(State.MISSED)), len(result.slots(State.LATE)), result.surplus
    all_known = not result.slots(State.UNKNOWN)
    missed, late, surplus = (count if count or all_known else None for count in found)
    return missed, late, surplus


def _item(value: Performance) -> str:
    """Return one item: 'label'=value[UOM];[warn];[crit];[min]. Numbers have no exponent; `U` is not known."""
    label = value.name.replace("=", "_").replace("|", "_")
    if not label.replace("_", "").replace("-", "").isalnum():
        label = "'" + label.replace("'", "''") + "'"
    # A threshold is a range that alerts on more (Monitoring Plugins guidelines): from 1 slot on is above 0.
    above = 1 if value.counted else 0
    limits = [None if limit is None else limit - above for limit in (value.warning, value.critical)]
    limits.append(value.minimum)
    while limits and limits[-1] is None:
        limits.pop()
    said = "U" if value.value is None else f"{value.value:.{value.decimals}f}{value.unit}"
    return ";".join([f"{label}={said}", *map(_number, limits)])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")


def _age(stored_at: datetime, now: datetime) -> float:
    return max(0.0, (now - stored_at) / _SECOND)
