"""Write the report of a run that has ended to a file. A failure to do so changes no exit status."""

from __future__ import annotations

import os

from crypto_trigger.deadline.files import own_descriptor, reason
from crypto_trigger.deadline.streams import send


def write_report(path: str, report: str, seconds: float) -> str:
    """Write a report as one line in place of the file's content. Return what went wrong, or an empty text.

    The file itself is not replaced by another: /dev/termination-log is a mount, which cannot be replaced. A FIFO that
    nobody reads is refused, without waiting. A descriptor of this process, such as `-` or /dev/stdout, is written to
    for at most `seconds`. It is not opened again, because that would empty the file that it is redirected to.
    """
    data = (report + "\n").encode()
    try:
        descriptor = own_descriptor(path)
        if descriptor is not None:
            send(descriptor, data, seconds)
            return ""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK
        with open(os.open(path, flags, 0o644), "wb") as file:  # noqa: PTH123 - flags are ours
            file.write(data)
    except (OSError, ValueError, OverflowError) as error:
        return f"the report could not be written to {path}: {reason(error)}"
    return ""
