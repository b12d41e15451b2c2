"""A subscriber of core NATS, which hears in a thread of its own while the test runs the program."""

from __future__ import annotations

import threading
from typing import NamedTuple

import nats

from support.loops import Loop
from support.patience import PATIENCE


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
        self._loop = Loop()
        self._changed = threading.Condition()
        self._client = None
        self._heard = []

    def __enter__(self):
        self._loop.__enter__()
        self._loop.call(self._open())
        return self

    def __exit__(self, *_):
        self._loop.call(self._client.close())
        self._loop.__exit__()

    def heard(self):
        """Everything the server has sent us up to now, that is up to a message of our own."""
        marker = f"{self._subject}.marker"
        self._loop.call(self._client.publish(marker))
        with self._changed:
            assert self._changed.wait_for(lambda: any(m.subject == marker for m in self._heard), PATIENCE)
            found, self._heard = [m for m in self._heard if m.subject != marker], []
        return found

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
