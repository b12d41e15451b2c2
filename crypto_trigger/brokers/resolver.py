"""Look up the addresses of a host name, with a time limit."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from contextlib import suppress


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
