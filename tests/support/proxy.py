"""A TCP proxy between the program and a server, whose faults strike at an exact byte or protocol message."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from enum import Enum
from urllib.parse import urlsplit

from support.loops import Loop
from support.patience import PATIENCE

_ENDS_WITHIN = 10.0
_WITH_PAYLOAD = (b"PUB", b"HPUB", b"MSG", b"HMSG")


class Way(Enum):
    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


class Severed(Exception):
    """The fault ends the connection here; `reset` says that the program gets a RST, not a FIN."""

    def __init__(self, *, reset=False):
        super().__init__()
        self.reset = reset


class Fault:
    """What happens to one connection: nothing. `struck` tells whether it came to its point."""

    struck = False
    target = None  # another server than the proxy's own

    def __repr__(self):
        told = ", ".join(f"{name}={value}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"{type(self).__name__}({told})"

    async def accept(self):
        """Return the fault of a connection that begins, or raise Severed to hang up before anything is said."""
        return self

    async def filter(self, way, chunks, over):  # noqa: ARG002 - other faults use them
        """Yield what goes on; `over` is the event that the case is over, after which nothing should be held."""
        async for chunk in chunks:
            yield chunk


class Recorded(Fault):
    """Nothing happens; `data` is all that one direction carried."""

    def __init__(self, way):
        self._way = way
        self.data = b""

    async def filter(self, way, chunks, over):
        async for chunk in super().filter(way, chunks, over):
            if way is self._way:
                self.data += chunk
            yield chunk


class Elsewhere(Fault):
    """The connection leads to another server."""

    def __init__(self, url):
        self.target = _address(url)


class HangUp(Fault):
    """The connection is taken and reset at once."""

    async def accept(self):
        self.struck = True
        raise Severed(reset=True)


class Cut(Fault):
    """The connection ends after byte `after` in one way."""

    def __init__(self, way, after, *, reset=False):
        self.way = way
        self.after = after
        self.reset = reset

    async def filter(self, way, chunks, over):
        left = self.after
        async for chunk in chunks:
            if way is self.way:
                if len(chunk) > left:
                    yield chunk[:left]
                    self.struck = True
                    await self.strike(over)
                left -= len(chunk)
            yield chunk

    async def strike(self, over):  # noqa: ARG002 - Freeze uses it
        raise Severed(reset=self.reset)


class Freeze(Cut):
    """Nothing more passes in one way after byte `after`, and the connection stays up."""

    async def strike(self, over):
        await over.wait()
        raise Severed


class Tamper(Fault):
    """One protocol message in one way is dropped, doubled or late: number `index`, or the first that `fits`."""

    def __init__(self, way, what, index=None, *, fits=None, late=0.0):
        self.way = way
        self.what = what
        self.index = index
        self.message = b""
        self._fits = fits
        self._late = late

    async def filter(self, way, chunks, over):  # noqa: ARG002 - what is late ends by itself
        if way is not self.way:
            async for chunk in chunks:
                yield chunk
            return
        number = 0
        async for message in messages(chunks):
            hit = not self.struck and (self._fits(message) if self._fits else number == self.index)
            number += 1
            if not hit:
                yield message
                continue
            self.struck = True
            self.message = message
            if self.what == "late":
                await asyncio.sleep(self._late)
            if self.what != "drop":
                yield message
            if self.what == "double":
                yield message


class Hold(Fault):
    """What the server says is kept back on every connection from the moment the client has said `after` there.

    `release()` lets it through, `lose()` drops it and hangs up.
    """

    def __init__(self, proxy, after):
        self.after = after
        self.url = ""
        self._proxy = proxy
        self._heard = []
        self._passed = []
        self._changed = threading.Condition()
        self._let_go = asyncio.Event()
        self._lost = False

    async def accept(self):
        with self._changed:
            self._heard.append(b"")
            self._passed.append(0)
            return _Held(self, len(self._heard) - 1)

    def wait_for(self, wanted, connections=1):
        """Wait until the client has said `wanted` on so many connections, and it is on its way to the server."""

        def said():
            ways = zip(self._heard, self._passed, strict=True)
            return sum(wanted in heard[:passed] for heard, passed in ways) >= connections

        with self._changed:
            assert self._changed.wait_for(said, PATIENCE), f"never heard {wanted!r}"

    def release(self):
        self._proxy.soon(self._let_go.set)

    def lose(self):
        self._lost = True
        self.release()

    def hear(self, number, chunk):
        """Take note of what the client says on a connection."""
        with self._changed:
            self._heard[number] += chunk

    def passed(self, number):
        """Take note that all of it is on its way to the server."""
        with self._changed:
            self._passed[number] = len(self._heard[number])
            self._changed.notify_all()

    async def pass_on(self, number):
        """Return when what the server says on a connection may go on. Raises Severed if it never may."""
        if self.after in self._heard[number]:
            await self._let_go.wait()
            if self._lost:
                raise Severed


class _Held(Fault):
    """One connection of a Hold."""

    def __init__(self, hold, number):
        self._hold = hold
        self._number = number

    async def filter(self, way, chunks, over):  # noqa: ARG002 - the Hold lets go before
        async for chunk in chunks:
            if way is Way.TO_SERVER:
                self._hold.hear(self._number, chunk)
                yield chunk
                self._hold.passed(self._number)
            else:
                await self._hold.pass_on(self._number)
                yield chunk


async def messages(chunks):
    """Yield a stream of the NATS protocol message by message, payloads included; what is left at the end, as it is."""
    buffer = b""
    async for chunk in chunks:
        buffer += chunk
        while end := _message_end(buffer):
            yield buffer[:end]
            buffer = buffer[end:]
    if buffer:
        yield buffer


def is_ack(message):
    """Tell whether a message to the client is the stream's acknowledgement."""
    return message.startswith(b"MSG") and b'{"stream":' in message


def payload_size(line):
    """Return how many bytes of payload follow a line of the protocol; None if it has no payload."""
    return int(line.rsplit(b" ", 1)[1]) if line.split(b" ", 1)[0] in _WITH_PAYLOAD else None


def _message_end(buffer):
    line, ended, _ = buffer.partition(b"\r\n")
    if not ended:
        return 0
    end = len(line) + 2
    if (size := payload_size(line)) is not None:
        end += size + 2
    return end if len(buffer) >= end else 0


def _address(url):
    parts = urlsplit(url)
    return parts.hostname, parts.port


class Route:
    """One way to the server: the first connection gets the first fault, and so on; then `then`, or refusal."""

    def __init__(self, target, faults=(), then=None):
        self.url = ""
        self.connections = 0
        self._target = target
        self._faults = iter(faults)
        self._left = len(faults)
        self._then = then
        self._listener = None
        self._over = asyncio.Event()
        self._tasks = set()

    async def open(self):
        self._listener = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def close(self):
        """Wait until everything on its way has arrived and the server has closed its side of each connection."""
        self._listener.close()
        self._over.set()
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=_ENDS_WITHIN)
            assert not unfinished, "a connection of the proxy did not end"
        for task in self._tasks:
            task.result()
        # A connection may have been taken since; see `_take`.
        await asyncio.wait_for(self._listener.wait_closed(), _ENDS_WITHIN)

    async def tear(self):
        """Break every connection at once; what is on its way is lost."""
        await asyncio.sleep(0)  # a task that has not begun would leave its connection open
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks.clear()

    def _take(self, reader, writer):
        if self._over.is_set():
            writer.transport.abort()
            return
        self.connections += 1
        self._left -= 1
        if self._left <= 0 and self._then is None:
            # Refused by the kernel from here on, as where nobody listens.
            self._listener.close()
        fault = next(self._faults, None) or self._then or HangUp()
        self._tasks.add(asyncio.get_running_loop().create_task(self._carry(fault, reader, writer)))

    async def _carry(self, fault, reader, writer):
        """Carry one connection to its end, which is when the server has closed its side."""
        server, pumps = None, set()
        try:
            fault = await fault.accept()
            server_reader, server = await self._reach(fault.target or self._target)
            pumps = {
                asyncio.ensure_future(self._pump(fault, Way.TO_SERVER, reader, server)),
                asyncio.ensure_future(self._pump(fault, Way.TO_CLIENT, server_reader, writer)),
            }
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            await _end(pumps)
            for pump in done:
                pump.result()
        except Severed as severed:
            if severed.reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
            if server:
                # The server sees the end in order, so that the end of its reading can be waited for.
                with suppress(OSError):
                    server.write_eof()
                    while await server_reader.read(65536):
                        pass
        except asyncio.CancelledError:
            await _end(pumps)
            for end in filter(None, (writer, server)):
                end.transport.abort()
            raise
        finally:
            for end in filter(None, (writer, server)):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    async def _reach(self, target):
        try:
            return await asyncio.open_connection(*target)
        except ConnectionRefusedError:
            raise Severed from None

    async def _pump(self, fault, way, source, sink):
        async for piece in fault.filter(way, _chunks(source), self._over):
            # An end that has gone takes nothing more; the other way goes on.
            with suppress(OSError):
                sink.write(piece)
                await sink.drain()
        with suppress(OSError):
            sink.write_eof()


async def _end(tasks):
    """Cancel those of the tasks that are not done, and wait for them."""
    pending = {task for task in tasks if not task.done()}
    for task in pending:
        task.cancel()
    if pending:
        await asyncio.wait(pending)


async def _chunks(reader):
    with suppress(OSError):
        while chunk := await reader.read(65536):
            yield chunk


class Proxy(Loop):
    """Routes to one server, run in a thread of their own while the block does."""

    def __init__(self, url):
        super().__init__()
        self._target = _address(url)

    @contextmanager
    def route(self, *faults, then=None):
        """Give each connection its fault, then `then` for all others; without `then` they are refused.

        When the block ends, everything on its way has arrived, and the server has read it.
        """
        route = Route(self._target, faults, then)
        self.call(route.open())
        try:
            yield route
        finally:
            self.call(route.close())


@contextmanager
def holding(url, after):
    """A way to a server, at `url` of what is yielded, that keeps back what it says once the client has said `after`."""
    with Proxy(url) as proxy:
        hold = Hold(proxy, after)
        with proxy.route(then=hold) as route:
            hold.url = route.url
            try:
                yield hold
            finally:
                hold.release()
