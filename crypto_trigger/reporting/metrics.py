"""Write metrics about the run that ended to a file, for the textfile collector of Prometheus's node exporter.

The file belongs to one trigger: a run replaces it, and keeps of the old one only the time of the last success. A file
that holds anything else is left alone.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import contextmanager
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, NamedTuple, assert_never

from crypto_trigger.deadline import files
from crypto_trigger.deadline.files import own_descriptor
from crypto_trigger.deadline.streams import send
from crypto_trigger.reporting.prometheus import gauge, label
from crypto_trigger.settings.values import Delivery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crypto_trigger.reporting.report import Report

_PREFIX = "crypto_trigger_"
METRICS = {
    "last_run_timestamp_seconds": "When the last run of publish ended.",
    "last_success_timestamp_seconds": "When the last run that ended with status 0 ended.",
    "last_run_slot_timestamp_seconds": "Start of the slot of the last run.",
    "last_run_duration_seconds": "How long the last run took.",
    "last_run_exit_status": "Exit status of the last run.",
    "last_run_attempts": "How many attempts to deliver the last run made.",
    "build_info": "Always 1; the label says which version the last run was.",
}
_LAST_SUCCESS = "last_success_timestamp_seconds"
_SAMPLE = (
    r'crypto_trigger_([a-z_]+)\{(stream="(?:[^"\\]|\\.)*"),(subject="(?:[^"\\]|\\.)*")[^}]*\} ([0-9]+(?:\.[0-9]+)?)'
)
# In bytes. Our own file has about 2 kB, and up to 6 kB with the longest names.
_LARGEST = 1 << 16
# How long to wait for another run that writes the file, in seconds. After that it is written all the same.
_LOCK_SECONDS, _LOCK_POLL_SECONDS = 0.5, 0.005


class Labels(NamedTuple):
    """The labels of each metric, as they are written. The stream is empty for deliveries without one."""

    stream: str
    subject: str


_NO_LABELS = Labels(label("stream", ""), label("subject", ""))


class Kept(NamedTuple):
    """What an existing file says: its labels, and the time of the last success, if it has one, as it is written."""

    labels: Labels
    success: str | None


def write_metrics(path: str, report: Report, known: Mapping[str, Any], seconds: float) -> str:
    """Replace the file at once, by renaming, and readable for all. Return what went wrong, or an empty text.

    `known` holds the settings that could be read. A run that does not know its subject, because a setting is wrong,
    keeps the labels of the file. A symbolic link stays; the file that it leads to is replaced. A descriptor of this
    process, such as `-` or /dev/stdout, is written to for at most `seconds`, and says nothing of runs before.
    """
    try:
        if (descriptor := own_descriptor(path)) is not None:
            send(descriptor, _text(report, _labels(known) or _NO_LABELS, None).encode(errors="replace"), seconds)
            return ""
        target = os.path.realpath(path)
        folder = os.path.dirname(target)  # noqa: PTH120 - as the rest, in the form that `open` takes
        with _alone(folder):
            kept = _read(target)
            labels = _labels(known) or (kept.labels if kept else _NO_LABELS)
            success = kept.success if kept and kept.labels == labels else None
            files.replace(target, _text(report, labels, success).encode(errors="replace"))
    except (OSError, ValueError, OverflowError) as error:
        return f"the metrics could not be written to {path}: {files.reason(error)}"
    return ""


def _labels(known: Mapping[str, Any]) -> Labels | None:
    """Return the labels, if the settings that they depend on are known."""
    delivery: Delivery | None = known.get("delivery")
    stream, subject = known.get("stream"), known.get("subject")
    if not (stream and subject):
        return None
    match delivery:
        case Delivery.JETSTREAM:
            return Labels(label("stream", stream), label("subject", subject))
        case Delivery.CORE | Delivery.STREAMING:
            return Labels(label("stream", ""), label("subject", subject))
        case None:
            return None
        case _:
            assert_never(delivery)


def _text(report: Report, labels: Labels, last_success: str | None) -> str:
    """Return the metrics in the text format of Prometheus; those without a value are left out."""
    ended = f"{report.time.timestamp():.3f}"
    values = {
        "last_run_timestamp_seconds": ended,
        _LAST_SUCCESS: last_success if report.status else ended,
        "last_run_slot_timestamp_seconds": f"{report.scheduled_at.timestamp():.0f}" if report.scheduled_at else None,
        "last_run_duration_seconds": f"{report.elapsed_ms / 1000:.3f}",
        "last_run_exit_status": str(report.status),
        "last_run_attempts": str(report.attempts or 0),
        "build_info": "1",
    }
    lines: list[str] = []
    for name, value in values.items():
        if value is not None:
            more = [label("version", report.version)] if name == "build_info" else []
            lines += gauge(name, METRICS[name], ",".join([*labels, *more]), value)
    return "\n".join(lines) + "\n"


def _read(path: str) -> Kept | None:
    """Return what an existing file says, or None if there is none or it is empty.

    Raises ValueError if it is not a file of metrics of this program, OSError if it cannot be read.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - before opening, which may have side effects
    except FileNotFoundError:
        return None
    if not S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file")
    with open(path, "rb") as file:  # noqa: PTH123 - likewise
        content = file.read(_LARGEST + 1)
    lines = content.decode(errors="replace").splitlines()
    # A name of ours may be followed by anything: what is not a sample as we write it is lost, which does not matter.
    ours = re.compile(rf"(# (HELP|TYPE) )?{_PREFIX}({'|'.join(METRICS)})\b.*")
    if len(content) > _LARGEST or not all(ours.fullmatch(line) for line in lines if line):
        raise ValueError("it holds something else, which is kept")
    samples = {match[1]: match for line in lines if (match := re.fullmatch(_SAMPLE, line))}
    if not samples:
        return None
    any_of_them = next(iter(samples.values()))
    success = samples[_LAST_SUCCESS][4] if _LAST_SUCCESS in samples else None
    return Kept(Labels(any_of_them[2], any_of_them[3]), success)


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Hold a lock on the folder, so that no other run writes between this one's reading and writing.

    Without it, a run that failed could overwrite the success of another. Where the folder cannot be locked, as in some
    network file systems, or for too long, the block runs all the same: the file is complete in any case.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # a folder that is not there is found when the file is written
        yield
        return
    until = time.monotonic() + _LOCK_SECONDS
    try:
        while time.monotonic() < until:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_LOCK_POLL_SECONDS)
            except OSError:
                break
            else:
                break
        yield
    finally:
        os.close(descriptor)
