"""A publisher that goes on whatever happens to the servers: numbered messages, each until it is acknowledged."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import nats

from support.patience import PATIENCE

_PAUSE = 0.005


class Sender(threading.Thread):
    """Stores the messages `0`, `1` and so on up to `total`, while the block runs. Their msg ids keep them single.

    `disturb` maps a number to what is to happen once that many are stored, one after the other; the publisher does not
    wait for them.
    """

    def __init__(self, urls, subject, total, disturb=None):
        super().__init__(daemon=True)
        self._urls = urls.split(",")
        self._subject = subject
        self._total = total
        self._disturb = disturb or {}
        self._disturbers = []
        self._errors = []
        self._ended = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        if kind:
            self._ended.set()
        self.join(3 * PATIENCE)
        for disturber in self._disturbers:
            disturber.join(3 * PATIENCE)
        self._ended.set()
        assert not self._errors, self._errors
        assert kind or not self.is_alive(), "not all messages could be stored"

    def run(self):
        for number in range(self._total):
            if action := self._disturb.get(number):
                before = self._disturbers[-1:]
                self._disturbers.append(threading.Thread(target=self._do, args=(action, before), daemon=True))
                self._disturbers[-1].start()
            while not self._ended.is_set() and not asyncio.run(self._store(number)):
                time.sleep(_PAUSE)

    def _do(self, action, before):
        try:
            for disturber in before:
                disturber.join()
            action()
        except Exception as error:  # noqa: BLE001 - told when the block ends
            self._errors.append(error)

    async def _store(self, number):
        """Store one message by the first server that takes it; whether any did."""
        for url in self._urls:
            with suppress(nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError):
                connection = await nats.connect(
                    url, allow_reconnect=False, connect_timeout=1, max_reconnect_attempts=1, error_cb=_ignore
                )
                try:
                    ack = connection.jetstream(timeout=2).publish(
                        self._subject, str(number).encode(), headers={"Nats-Msg-Id": f"{self._subject}:{number}"}
                    )
                    await ack
                finally:
                    await connection.close()
                return True
        return False


async def _ignore(_):
    pass
