"""Read the files that settings name, with a limit on time and size, whatever kind of file they are; replace one.

`-` and descriptors of this process are never replaced: they are written to.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR, S_ISFIFO, S_ISREG

from crypto_trigger.deadline.streams import send

# In bytes. The text is parsed with regular expressions, which are slow on long texts; a credentials file has 2 KiB.
_LARGEST_TEXT = 1 << 16
# In bytes. OpenSSL reads the whole file; the certificate authorities of a whole system have 0.2 MiB.
_LARGEST_CERTIFICATES = 1 << 23
_CHUNK = 1 << 16
# In characters. A file name has at most 255 bytes; this leaves room for what the name of a temporary file adds.
_LONGEST_BESIDE = 50


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


def replace(path: str, content: bytes) -> None:
    """Put `content` in place of a file in one step: a reader sees the old content or the new one, never a part.

    The file gets the mode 0644, whatever the umask. A symbolic link stays; the file that it leads to is replaced.
    Raises OSError, and ValueError if there is something else than a regular file.
    """
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    with suppress(FileNotFoundError):
        if not S_ISREG(os.stat(target).st_mode):  # noqa: PTH116 - a Path refuses NUL
            raise ValueError("it is not a regular file")
    # Beside the target, because a rename does not cross file systems. Node exporter reads only names ending in `.prom`.
    beside = os.path.join(folder, f".{name[:_LONGEST_BESIDE]}.{os.getpid()}-{os.urandom(4).hex()}.tmp")  # noqa: PTH118 - as above
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no Path
            file.write(content)
            file.flush()
            os.fchmod(descriptor, 0o644)
        os.replace(beside, target)  # noqa: PTH105 - as above
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)  # noqa: PTH108 - as above
        raise


def reason(error: Exception) -> str:
    """Return why a file could not be written, for the end of a line."""
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()


STDOUT = 1
_MOST_LINKS = 40  # the kernel's limit (path_resolution(7))


def put(path: str, content: bytes, seconds: float) -> None:
    """Put `content` in place of a file in one step, or write it to the descriptor of this process that `path` names.

    A descriptor is written to for at most `seconds`: what was redirected there before stays. Raises OSError, and
    ValueError or OverflowError for what is no regular file or no descriptor.
    """
    descriptor = own_descriptor(path)
    if descriptor is None:
        replace(path, content)
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
