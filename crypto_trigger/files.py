"""Read the files that settings name, with a limit on time and size, whatever kind of file they are."""

from __future__ import annotations

import os
import time
from pathlib import Path
from stat import S_ISDIR, S_ISFIFO, S_ISREG

# In bytes. The text is parsed with regular expressions, which are slow on long texts; a credentials file has 2 KiB.
_LARGEST_TEXT = 1 << 16
# In bytes. OpenSSL reads the whole file; the certificate authorities of a whole system have 0.2 MiB.
_LARGEST_CERTIFICATES = 1 << 23
_CHUNK = 1 << 16


def read_text(path: str, until: float) -> str:
    """Return the content of a file or pipe as text, without a byte order mark.

    `until` is a time of `time.monotonic()`: a pipe, such as the shell's <(command), must be written and closed by then.
    Raises ValueError with what is wrong: the pipe was not, or the file cannot be opened, is a directory, is larger than
    64 KiB, is not UTF-8, or contains NUL bytes.
    """
    try:
        # Without O_NONBLOCK, open would wait until a pipe has a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            content = _drain(descriptor, until)
        finally:
            os.close(descriptor)
    except IsADirectoryError:
        raise ValueError("is a directory, not a file") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    if b"\0" in content:
        raise ValueError("cannot be read: it holds NUL bytes, as UTF-16 does; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("cannot be read: it is not UTF-8") from None


def _drain(descriptor: int, until: float) -> bytes:
    from select import POLLIN, poll

    ready = poll()
    ready.register(descriptor, POLLIN)
    content = bytearray()
    while ready.poll(max(0.0, until - time.monotonic()) * 1000):
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return bytes(content)
        content += chunk
        if len(content) > _LARGEST_TEXT:
            raise ValueError(f"cannot be read: it holds more than {_LARGEST_TEXT >> 10} KiB")
    raise ValueError("cannot be read: it was not written and closed in time")


def regular_file(path: str) -> Path:
    """Return the path of a regular file that can be read. It is read more than once: pipes and devices are refused.

    Raises ValueError with what is wrong.
    """
    try:
        # Check before opening: opening a device can have side effects.
        found = os.stat(path)  # noqa: PTH116 - a Path refuses NUL
        if S_ISDIR(found.st_mode):
            raise ValueError("is a directory, not a file")
        if S_ISFIFO(found.st_mode):
            raise ValueError("is a pipe; it is read more than once, so that it must be a file")
        if not S_ISREG(found.st_mode):
            raise ValueError("is a device, not a file")
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'unknown error').lower()}") from None
    if found.st_size > _LARGEST_CERTIFICATES:
        raise ValueError(f"is too large: certificates are taken up to {_LARGEST_CERTIFICATES >> 20} MiB")
    return Path(path)
