"""An event loop in a thread of its own, for what goes on while a test runs the program."""

from __future__ import annotations

import asyncio
import threading

from support.patience import PATIENCE


class Loop:
    """An event loop that runs while the block does."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def call(self, coroutine):
        """Run a coroutine in the loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def soon(self, function):
        """Call a function in the loop, and do not wait for it."""
        self._loop.call_soon_threadsafe(function)
