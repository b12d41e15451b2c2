"""A way to a server that can fall silent or be torn, as a network can."""

from __future__ import annotations

import asyncio
import threading

_CHUNK = 1 << 16


class Link:
    """A way to a port of 127.0.0.1 by a port of our own, which can fall silent or be torn.

    Silent as a network is: nobody is told, and what was under way arrives when the link speaks again.
    """

    def __init__(self, loop, target):
        self._loop = loop
        self._target = target
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._carriers = set()
        self._trap = None
        self._server = loop.call(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"

    def hush(self):
        """Carry nothing from here on, and take new connections without serving them."""
        self._loop.call(self._switch(self._speaks.clear))

    def speak(self):
        """Carry again, what was held first."""
        self._loop.call(self._switch(self._speaks.set))

    def trap(self, pattern, *, to_server, deliver):
        """Fall silent at the first bytes of one direction that hold `pattern`, after or before they are delivered.

        Returns the event that is set then.
        """
        trapped = threading.Event()
        self._trap = (pattern, to_server, deliver, trapped)
        return trapped

    def tear(self):
        """Break every connection, and lose what is held."""
        self._loop.call(self._tear())

    def close(self):
        self._loop.call(self._close())

    async def _listen(self):
        return await asyncio.start_server(self._carry, "127.0.0.1", 0)

    async def _switch(self, change):
        change()

    async def _tear(self):
        for carrier in self._carriers:
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)

    async def _close(self):
        self._server.close()
        await self._tear()

    async def _carry(self, reader, writer):
        self._carriers.add(asyncio.current_task())
        beyond = None
        try:
            await self._speaks.wait()
            there, beyond = await asyncio.open_connection("127.0.0.1", self._target)
            ways = [
                asyncio.ensure_future(self._pump(reader, beyond, to_server=True)),
                asyncio.ensure_future(self._pump(there, writer, to_server=False)),
            ]
            try:
                # The end of one way is the end of both: a server that dies hangs up.
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._carriers.discard(asyncio.current_task())
            for end in filter(None, (writer, beyond)):
                end.transport.abort()

    async def _pump(self, reader, writer, *, to_server):
        while chunk := await reader.read(_CHUNK):
            pattern, direction, deliver, trapped = self._trap or (b"", None, False, None)
            caught = direction == to_server and pattern in chunk
            if caught:
                self._trap = None
            if caught and not deliver:
                self._speaks.clear()
                trapped.set()
            await self._speaks.wait()
            writer.write(chunk)
            await writer.drain()
            if caught and deliver:
                self._speaks.clear()
                trapped.set()
