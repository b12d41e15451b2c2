"""Tell others how a run ended, after the verdict: nothing here changes it, and a failure is one warning."""

from __future__ import annotations

import os
import re

from crypto_trigger.streams import send

_MOST_LINKS = 40  # as the kernel has it (path_resolution(7))


def write_report(path: str, report: str, seconds: float) -> str:
    """Write a report, one line, over what the file held. Return what went wrong, or an empty text.

    Not by way of a temporary file: /dev/termination-log is a mount that cannot be replaced. Not waiting either: a
    FIFO that nobody reads is refused. One of the process's own descriptors, such as /dev/stdout, is written to as it
    is, for at most `seconds`: to open it again would empty the file that it is redirected to.
    """
    data = (report + "\n").encode()
    try:
        descriptor = _own_descriptor(path)
        if descriptor is not None:
            send(descriptor, data, seconds)
            return ""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
        with open(os.open(path, flags, 0o644), "wb") as file:  # noqa: PTH123 - flags are ours
            file.write(data)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"the report could not be written to {path}: {reason.lower()}"
    return ""


def _own_descriptor(path: str) -> int | None:
    """Return the number of this process's descriptor that a path names, through symbolic links too, or None."""
    ours = re.escape(os.path.realpath("/proc/self")) + r"(/task/[0-9]+)?/fd"
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        if name.isdecimal() and re.fullmatch(ours, folder):
            return int(name)
        try:
            path = os.path.join(folder, os.readlink(os.path.join(folder, name)))  # noqa: PTH115, PTH118 - a text
        except OSError:  # no link
            return None
    return None
