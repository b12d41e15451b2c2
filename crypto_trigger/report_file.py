"""Write the report of a run that has ended to a file. A failure to do so changes no exit status."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from crypto_trigger.streams import send

_MOST_LINKS = 40  # the kernel's limit (path_resolution(7))


def write_report(path: str, report: str, seconds: float) -> str:
    """Write a report as one line in place of the file's content. Return what went wrong, or an empty text.

    The file itself is not replaced by another: /dev/termination-log is a mount, which cannot be replaced. A FIFO that
    nobody reads is refused, without waiting. A descriptor of this process, such as /dev/stdout, is written to for at
    most `seconds`. It is not opened again, because that would empty the file that it is redirected to.
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
    except (OSError, ValueError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"the report could not be written to {path}: {reason.lower()}"
    return ""


def _own_descriptor(path: str) -> int | None:
    """Return the number of the descriptor of this process that a path names, or None.

    It may name one through symbolic links, or be the file that stdout or stderr is redirected to.
    """
    for descriptor in (1, 2):
        with suppress(OSError, ValueError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):  # noqa: PTH116 - beside fstat
                return descriptor
    ours = re.escape(os.path.realpath("/proc/self")) + r"(/task/[0-9]+)?/fd"
    for _ in range(_MOST_LINKS):
        folder, name = os.path.split(path)
        folder = os.path.realpath(folder)
        if name.isdecimal() and re.fullmatch(ours, folder):
            return int(name)
        try:
            path = os.path.join(folder, os.readlink(os.path.join(folder, name)))  # noqa: PTH115, PTH118 - not a Path
        except OSError:  # no link
            return None
    return None
