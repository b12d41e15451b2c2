"""Core NATS: listen to a subject as any subscriber does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crypto_trigger.brokers.access import Access
from crypto_trigger.brokers.connection import connect
from crypto_trigger.brokers.faults import Phase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from nats.aio.msg import Msg

    from crypto_trigger.settings import Settings


@asynccontextmanager
async def listening(settings: Settings, heard: Callable[[str, bytes], None]) -> AsyncIterator[None]:
    """Call `heard` with subject and payload of every message on the subject, while the block runs.

    The subscription is in force when the block begins. Raises a BrokerError.
    """
    access = Access.from_settings(settings)

    async def on_message(message: Msg) -> None:
        heard(message.subject, message.data)

    async with connect(settings, access) as connection:
        await connection.client.subscribe(settings.subject, cb=on_message)
        # A flush puts its PING ahead of what is still waiting to be sent; the second one's comes behind it.
        for _ in range(2):
            await connection.ask(connection.client.flush(), settings.subject, Phase.ASK)
        yield
        await asyncio.sleep(0)
