"""Core NATS: get what is published on the subject while a subscription is there. Nothing is stored."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crypto_trigger.arrival import Arrival
from crypto_trigger.brokers.failures import Phase
from crypto_trigger.brokers.inbox import Inbox
from crypto_trigger.brokers.servers import Servers
from crypto_trigger.errors import BrokerError, Fact
from crypto_trigger.trigger import Stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crypto_trigger.brokers.connection import Connection
    from crypto_trigger.retry import Attempt
    from crypto_trigger.settings import Settings


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
