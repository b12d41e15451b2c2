"""What a program may leave behind: processes and files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def children(pid):
    """The pids of a process's children."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in found.split()]


def using(folder):
    """The command lines of all processes that have a folder, or what is in it, among their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended since
            arguments = path.read_bytes().split(b"\0")
            if any(argument.startswith(bytes(folder)) for argument in arguments):
                found.append(arguments)
    return found
