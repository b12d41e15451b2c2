"""Core NATS: get what is published on the subject while a subscription is there. Nothing is stored.

`Inbox` is a subscription whose messages are taken one by one, with a time limit for each.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import nats.errors

from crypto_trigger.connection.phases import Phase
from crypto_trigger.connection.servers import Servers
from crypto_trigger.errors import BrokerError, Fact
from crypto_trigger.slots.arrival import Arrival
from crypto_trigger.slots.trigger import Stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from crypto_trigger.connection.connection import Connection
    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.settings.load import Settings


class Subscriber:
    """Subscribes to the subject in the settings, over one connection after another."""

    # What is published while there is no connection is not stored anywhere.
    misses = True

    def __init__(self, settings: Settings) -> None:
        """Load credentials and certificates. Raises ConfigError if they cannot be used."""
        self._settings = settings
        self._servers = Servers(settings)

    @asynccontextmanager
    async def open(self, attempt: Attempt) -> AsyncIterator[_Messages]:
        """Connect and subscribe. The server has processed the subscription when the block begins."""
        subject = self._settings.subject
        async with self._servers.connect(attempt) as connection, Inbox.open(connection, subject) as inbox:
            await connection.processed(subject, Phase.LISTEN)
            yield _Messages(self._settings, connection, inbox)


class _Messages:
    """The messages of one subscription."""

    def __init__(self, settings: Settings, connection: Connection, inbox: Inbox) -> None:
        self.server = str(connection.server)
        self._settings = settings
        self._connection = connection
        self._inbox = inbox

    async def next(self) -> Arrival:
        """Return the next trigger. Raises a BrokerError if the connection is lost."""
        settings = self._settings
        while True:
            try:
                message = await self._inbox.next(settings.subject, Phase.LISTEN)
            except BrokerError as error:
                if error.fact != Fact.NO_ANSWER:
                    raise
                # Nothing was published, or nothing arrives any more.
                await self._connection.processed(settings.subject, Phase.LISTEN)
                continue
            received = Stored.with_headers(0, datetime.now(UTC), message.headers)
            if arrival := Arrival.of(message.subject, received, message.data, settings.every, settings.early):
                return arrival


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
