"""Write a file that an option or a setting names. `-` and descriptors of this process are never replaced."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from crypto_trigger import files
from crypto_trigger.streams import send

STDOUT = 1
_MOST_LINKS = 40  # the kernel's limit (path_resolution(7))


def put(path: str, content: bytes, seconds: float) -> None:
    """Put `content` in place of a file in one step, or write it to the descriptor of this process that `path` names.

    A descriptor is written to for at most `seconds`: what was redirected there before stays. Raises OSError, and
    ValueError or OverflowError for what is no regular file or no descriptor.
    """
    descriptor = own_descriptor(path)
    if descriptor is None:
        files.replace(path, content)
    else:
        send(descriptor, content, seconds)


def own_descriptor(path: str) -> int | None:
    """Return the number of the descriptor of this process that a path names, or None. `-` is stdout.

    It may name one through symbolic links (`/dev/stdout`, `/dev/fd/3`), or be the file that stdout or stderr is
    redirected to.
    """
    if path == "-":
        return STDOUT
    for descriptor in (STDOUT, 2):
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
        except (OSError, ValueError):  # no link, or a NUL
            return None
    return None
