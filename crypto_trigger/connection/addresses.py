"""Look up the addresses of a host name, and read again how a server greets: both with a time limit."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
import threading
from contextlib import suppress

from crypto_trigger.errors import BrokerError, Fact, Unavailable


async def resolve(host: str, port: int, limit: float) -> list[str]:
    """Return the addresses of a host name without duplicates. For an IP address, return that address.

    `limit` limits the lookup, in seconds. Raises TimeoutError, OSError as the resolver does, UnicodeError for an
    invalid name, or RuntimeError if no thread can be started.
    """
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    else:
        return [host]
    async with asyncio.timeout(limit):
        return await _look_up(host, port)


def _look_up(host: str, port: int) -> asyncio.Future[list[str]]:
    """Resolve a name in a daemon thread of our own.

    asyncio waits for its resolver threads at exit. A resolver that takes 10 s to answer would keep the process alive
    that long.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str], error: Exception | None) -> None:
        if answer.done():
            return
        if error:
            answer.set_exception(error)
        else:
            answer.set_result(addresses)

    def work() -> None:
        addresses: list[str] = []
        failure: Exception | None = None
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        except (OSError, UnicodeError) as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed: the run has ended without this answer
            loop.call_soon_threadsafe(settle, addresses, failure)

    threading.Thread(target=work, daemon=True).start()
    return answer


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
