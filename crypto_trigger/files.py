"""Read the files that settings name, in bounded time and size, whatever they turn out to be."""

from __future__ import annotations

import os
import time

# A pipe, as a shell makes of <(command), may take a moment to be filled; one that nobody fills must not hold the run.
PATIENCE = 5.0
_LARGEST = 1 << 20
_CHUNK = 1 << 16


def read_text(path: str) -> str:
    """Return the content of a file or pipe as text, without a byte order mark.

    Raises ValueError with what is wrong: it cannot be opened, is a directory, holds no UTF-8, holds more than 1 MiB,
    or is a pipe that is not written and closed within 5 seconds.
    """
    try:
        # Not waiting for a pipe's other end, as a plain open would.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return _drain(descriptor).decode("utf-8-sig")
        finally:
            os.close(descriptor)
    except IsADirectoryError:
        raise ValueError("is a directory, not a file") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    except UnicodeDecodeError:
        raise ValueError("cannot be read: it is not UTF-8") from None


def _drain(descriptor: int) -> bytes:
    from select import POLLIN, poll

    ready = poll()
    ready.register(descriptor, POLLIN)
    deadline = time.monotonic() + PATIENCE
    content = bytearray()
    while ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return bytes(content)
        content += chunk
        if len(content) > _LARGEST:
            raise ValueError("cannot be read: it holds more than 1 MiB")
    raise ValueError(f"cannot be read: it was not written and closed within {PATIENCE:g} seconds")
