"""A subscription whose messages are taken one by one, with a time limit for each, and none is lost by a limit."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import nats.errors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from crypto_trigger.brokers.connection import Connection


class Inbox:
    """The messages of one subscription, in the order in which they came."""

    def __init__(self, connection: Connection, subscription: Subscription) -> None:
        self._connection = connection
        self._subscription = subscription
        self._next: asyncio.Task[Msg] | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: Connection, subject: str) -> AsyncIterator[Inbox]:
        """Subscribe to `subject` while the block runs. The server may not have processed it when the block begins."""
        inbox = cls(connection, await connection.client.subscribe(subject))
        try:
            yield inbox
        finally:
            if inbox._next:
                inbox._next.cancel()
                await asyncio.gather(inbox._next, return_exceptions=True)

    @property
    def subject(self) -> str:
        """The subject of the subscription."""
        return self._subscription.subject

    async def next(self, about: str, phase: int) -> Msg:
        """Return the next message. It may take as long as the timeout setting. Raises a BrokerError.

        `about` is the subject that the wait is about: a refusal of another one does not end it.
        """
        # If the limit ends the wait, the task goes on: nats-py may have given it the message at the same moment.
        if self._next is None:
            self._next = asyncio.ensure_future(self._subscription.next_msg(timeout=None))
        try:
            return await self._connection.ask(self._come(self._next), about, phase)
        finally:
            if self._next.done():
                self._next = None

    async def _come(self, task: asyncio.Task[Msg]) -> Msg:
        await asyncio.wait({task})
        try:
            return task.result()
        except (nats.errors.ConnectionClosedError, asyncio.CancelledError):
            raise self._connection.lost() from None
