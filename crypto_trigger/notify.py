"""Tell others how a run ended, after the verdict: nothing here changes it, and a failure is one warning."""

from __future__ import annotations

import os


def write_report(path: str, report: str) -> str:
    """Write a report, one line, over what the file held. Return what went wrong, or an empty text.

    Not by way of a temporary file: /dev/termination-log is a mount that cannot be replaced. Not waiting either: a
    FIFO that nobody reads is refused.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
        with open(os.open(path, flags, 0o644), "w", encoding="utf-8") as file:  # noqa: PTH123 - flags are ours
            file.write(report + "\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"the report could not be written to {path}: {reason.lower()}"
    return ""
