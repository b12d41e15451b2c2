"""Find out why a handshake failed: connect once more and read the server's first line (INFO)."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from crypto_trigger.errors import BrokerError, Fact, Unavailable

# nats-py's limit, in bytes. Servers send far less.
_LONGEST_GREETING = 32768


async def reread(error: BrokerError, where: str, address: str, port: int, limit: float) -> BrokerError:
    """Return what a failed handshake means: Unavailable if INFO was cut off, BadPeer if the line is not NATS.

    nats-py raises the same exceptions for both. Other errors are returned unchanged. `where` names the server,
    `limit` limits the reading, in seconds.
    """
    if error.fact != Fact.GREETING_UNREAD:
        return error
    seen = b""
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(limit):
            reader, writer = await asyncio.open_connection(address, port)
            try:
                while b"\n" not in seen and len(seen) < _LONGEST_GREETING and (more := await reader.read(4096)):
                    seen += more
            finally:
                writer.close()
    line, whole, _ = seen.partition(b"\n")
    ended = whole or len(seen) >= _LONGEST_GREETING
    if not b"INFO ".startswith(line[:5]) or (ended and not _is_object(line[5:])):
        return error
    if line:
        return Unavailable(
            f"{where}: the connection was closed in the middle of the handshake",
            "see the server's log",
            Fact.CONNECTION_LOST,
        )
    return Unavailable(
        f"{where}: the connection was closed before a greeting",
        "if the server wants TLS first, set NATS_TLS_FIRST=true",
        Fact.CONNECTION_LOST,
    )


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
