"""A way to a server that can fall silent or be torn, as a network can."""

from __future__ import annotations

import asyncio
import threading

from support.proxy import Fault, Route


class Link(Fault):
    """A way to a port of 127.0.0.1 by a port of our own, which can fall silent or be torn.

    Silent as a network is: nobody is told, and what was under way arrives when the link speaks again.
    """

    def __init__(self, loop, target):
        self._loop = loop
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._trap = None
        self._route = Route(("127.0.0.1", target), then=self)
        loop.call(self._route.open())
        self.url = self._route.url

    def hush(self):
        """Carry nothing from here on, and take new connections without serving them."""
        self._loop.call(self._switch(self._speaks.clear))

    def speak(self):
        """Carry again, what was held first."""
        self._loop.call(self._switch(self._speaks.set))

    def trap(self, pattern, way, *, deliver):
        """Fall silent at the first bytes of one way that hold `pattern`, after or before they are delivered.

        Returns the event that is set then.
        """
        trapped = threading.Event()
        self._trap = (pattern, way, deliver, trapped)
        return trapped

    def tear(self):
        """Break every connection, and lose what is held."""
        self._loop.call(self._route.tear())

    def close(self):
        self.tear()
        self._loop.call(self._route.close())

    async def accept(self):
        await self._speaks.wait()
        return self

    async def filter(self, way, chunks, over):  # noqa: ARG002 - `close` tears what is held
        async for chunk in chunks:
            pattern, trapped_way, deliver, trapped = self._trap or (b"", None, False, None)
            caught = way is trapped_way and pattern in chunk
            if caught:
                self._trap = None
            if caught and not deliver:
                self._speaks.clear()
                trapped.set()
            await self._speaks.wait()
            yield chunk
            if caught and deliver:
                self._speaks.clear()
                trapped.set()

    async def _switch(self, change):
        change()
