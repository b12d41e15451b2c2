"""A subscriber of core NATS, which hears in a thread of its own while the test runs the program."""

from __future__ import annotations

import asyncio
import threading
from typing import NamedTuple

import nats

_PATIENCE = 20.0


class Heard(NamedTuple):
    subject: str
    data: bytes
    headers: dict[str, str]


class Subscriber:
    """Subscribes to a subject while the block runs; the subscription is in force when the block begins."""

    def __init__(self, url, subject, **options):
        self._url = url
        self._subject = subject
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._changed = threading.Condition()
        self._client = None
        self._heard = []

    def __enter__(self):
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, *_):
        self._call(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    def heard(self):
        """Everything the server has sent us up to now, that is up to a message of our own."""
        marker = f"{self._subject}.marker"
        self._call(self._client.publish(marker))
        with self._changed:
            assert self._changed.wait_for(lambda: any(m.subject == marker for m in self._heard), _PATIENCE)
            found, self._heard = [m for m in self._heard if m.subject != marker], []
        return found

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_PATIENCE)

    async def _open(self):
        self._client = await nats.connect(self._url, **self._options)
        for subject in (self._subject, f"{self._subject}.marker"):
            await self._client.subscribe(subject, cb=self._hear)
        # The second PING goes out behind the subscriptions.
        await self._client.flush()
        await self._client.flush()

    async def _hear(self, message):
        with self._changed:
            self._heard.append(Heard(message.subject, message.data, message.headers or {}))
            self._changed.notify_all()
