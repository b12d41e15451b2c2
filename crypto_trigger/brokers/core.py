"""Core NATS: publish to whoever listens, and listen as any subscriber does. Nothing is stored."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crypto_trigger.brokers.access import Access
from crypto_trigger.brokers.connection import connect
from crypto_trigger.brokers.faults import Phase
from crypto_trigger.errors import Outcome, Unavailable, Unusable
from crypto_trigger.trigger import Receipt, Trigger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from crypto_trigger.brokers.connection import Connection
    from crypto_trigger.settings import Settings

_STATUS = "Status"
_NO_RESPONDERS = "503"


class Publisher:
    """Publishes triggers, one attempt a call: connect, publish, see that the server processed it, close."""

    def __init__(self, settings: Settings) -> None:
        """Prepare credentials and certificates. Raises ConfigError where they do not fit."""
        self._settings = settings
        self._access = Access.from_settings(settings)
        self._turn = 0

    async def publish(self, trigger: Trigger, on_wire: Callable[[bool], None]) -> Receipt:
        """Make one attempt; `on_wire` is told True before the message may leave, False once nobody has received it.

        Raises a BrokerError: NoAck where the server may have processed the message, any other where it certainly has
        not, or where a subscriber is required and there is none.
        """
        turn, self._turn = self._turn, self._turn + 1
        required = self._settings.require_subscriber
        async with connect(self._settings, self._access, turn) as connection:
            client = connection.client
            statuses = await self._statuses(connection) if required else None
            headers = dict(trigger.headers) if connection.takes_headers else None
            on_wire(True)
            sending = client.publish(
                trigger.subject, trigger.payload, statuses.subject if statuses else "", headers=headers
            )
            await connection.ask(sending, trigger.subject, Phase.PUBLISH)
            await _processed(connection, self._access, trigger.subject, Phase.CONFIRM)
            # The status comes ahead of the server's answer to our PING; a stream's acknowledgement may come, too.
            if statuses and statuses.pending_msgs:
                answer = await connection.ask(statuses.next_msg(), statuses.subject, Phase.CONFIRM)
                nobody = (answer.headers or {}).get(_STATUS) == _NO_RESPONDERS
            else:
                nobody = False
            if nobody:
                on_wire(False)
                raise Unavailable(
                    f"{connection.server}: nobody listens on {trigger.subject}",
                    "start the subscriber, or publish without --require-subscriber",
                )
            return Receipt(outcome=Outcome.PUBLISHED, server=str(connection.server), subscriber=required or None)

    async def _statuses(self, connection: Connection) -> Subscription:
        """Return a subscription that hears it when nobody listens; in force, so that its silence means somebody does.

        Raises a BrokerError, Unusable where the server cannot tell.
        """
        if not connection.takes_headers:
            raise Unusable(
                f"{connection.server}: the server cannot tell whether anybody listens",
                "that takes NATS 2.2 or later, with headers; or publish without --require-subscriber",
            )
        inbox = connection.client.new_inbox()
        subscription = await connection.client.subscribe(inbox)
        await _processed(connection, self._access, inbox, Phase.CONNECT)
        return subscription


@asynccontextmanager
async def listening(settings: Settings, heard: Callable[[str, bytes], None]) -> AsyncIterator[Callable[[], bool]]:
    """Call `heard` with subject and payload of every message on the subject, while the block runs.

    The subscription is in force when the block begins. The block gets a function that tells whether it still is: false
    once the connection has ended. Raises a BrokerError.
    """
    access = Access.from_settings(settings)

    async def on_message(message: Msg) -> None:
        heard(message.subject, message.data)

    async with connect(settings, access) as connection:
        await connection.client.subscribe(settings.subject, cb=on_message)
        await _processed(connection, access, settings.subject, Phase.ASK)
        yield lambda: connection.client.is_connected
        await asyncio.sleep(0)


async def _processed(connection: Connection, access: Access, subject: str, phase: Phase) -> None:
    """Return once the server has processed all that was sent. Raises a BrokerError, also for what it refused.

    nats-py puts a PING ahead of what is still waiting to be sent; the second one's comes behind it. Not by `flush`,
    which takes a dead read loop for an answer.
    """
    for _ in range(2):
        ping = connection.client.rtt(access.timeout + 1)  # type: ignore[arg-type] # any number is one
        await connection.ask(ping, subject, phase)
        if complaint := connection.complaint(phase):
            raise complaint
