"""NATS Streaming, which the old system runs and which ended in 2023: register, publish, be acknowledged, take leave.

Its server does not recognise a message that comes twice, and one client ID has one holder: whoever else registers it
is refused while the holder answers the server's heartbeats, and replaces it when it does not.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from crypto_trigger.brokers.failures import Phase, Refusal
from crypto_trigger.brokers.servers import Servers
from crypto_trigger.brokers.streaming_wire import (
    CloseRequest,
    CloseResponse,
    ConnectRequest,
    ConnectResponse,
    Malformed,
    Message,
    PubAck,
    PubMsg,
)
from crypto_trigger.errors import BrokerError, Fact, Outcome, Unavailable
from crypto_trigger.trigger import Receipt, Trigger
from crypto_trigger.values import subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.msg import Msg

    from crypto_trigger.brokers.connection import Connection
    from crypto_trigger.draft import Draft
    from crypto_trigger.retry import Attempt
    from crypto_trigger.settings import Settings

M = TypeVar("M", bound=Message)
_PROTOCOL = 1
# What taking leave may cost at most, in seconds: the official clients' bound.
_LEAVE_SECONDS = 2.0


class Publisher:
    """Publishes triggers, one attempt a call: connect, register, publish, await the acknowledgement, leave, close."""

    def __init__(self, settings: Settings) -> None:
        """Prepare credentials and certificates. Raises ConfigError where they do not fit."""
        self._settings = settings
        self._servers = Servers(settings)
        self._client_id = settings.client_id + ("" if settings.client_id_exact else f"-{os.urandom(4).hex()}")
        self._forgotten = False

    async def publish(self, draft: Draft, attempt: Attempt) -> Receipt:
        """Make one attempt, as `delivery.Publisher` says."""
        async with self._servers.connect(attempt) as connection:
            trigger = draft.fix(None)
            client = Client(connection, self._client_id)
            await client.register(f"{self._settings.discover_prefix}.{self._settings.cluster_id}")
            attempt.sent = True
            try:
                await client.publish(trigger)
            except BrokerError as error:
                attempt.sent = error.perhaps
                if error.fact is Fact.CLIENT_UNKNOWN:
                    # The ID may be another process's by now, and the server closes a registration by the ID alone.
                    raise self._register_again(error) from error.__cause__
                await client.leave()
                raise
            except asyncio.CancelledError:
                # No time is left to await an answer; under an ID of the run's own the word itself does no harm.
                if not self._settings.client_id_exact:
                    await client.leave_word()
                raise
            return Receipt(
                outcome=Outcome.PUBLISHED,
                server=str(connection.server),
                cluster=self._settings.cluster_id,
                client_id=self._client_id,
                warnings=await client.leave(),
            )

    def _register_again(self, error: BrokerError) -> BrokerError:
        """Return the error as one to try again after, the first time: the server may have lost our registration.

        It does when it restarts on a memory store, or when another process takes the client ID.
        """
        if self._forgotten:
            return error
        self._forgotten = True
        return Unavailable(error.message, error.hint, error.fact, error.said)

    def again(self) -> str:
        """Return what running again means for a trigger that may be stored, as a hint."""
        return "running it again may store it twice"


class Client:
    """Our registration with the streaming server, over one connection."""

    def __init__(self, connection: Connection, client_id: str) -> None:
        self._connection = connection
        self._client_id = client_id
        self._conn_id = os.urandom(11).hex().encode()
        self._publish_prefix = ""
        self._close_requests = ""

    async def register(self, discover: str) -> None:
        """Register under the client ID, and answer the server's heartbeats from then on. Raises a BrokerError."""
        client = self._connection.client
        inbox = client.new_inbox()

        async def answer(heartbeat: Msg) -> None:
            if heartbeat.reply:
                await client.publish(heartbeat.reply)

        await client.subscribe(inbox, cb=answer)
        request = ConnectRequest(
            client_id=self._client_id, heartbeat_inbox=inbox, protocol=_PROTOCOL, conn_id=self._conn_id
        )

        def check(response: ConnectResponse) -> None:
            if response.error:
                raise Refusal(response.error)
            # Standalone servers before 0.20.0 made up a prefix of their own: it is the response's word that counts.
            subject(response.pub_prefix)

        response = await self._ask(discover, request, ConnectResponse, check, Phase.JOIN)
        self._publish_prefix = response.pub_prefix
        with suppress(ValueError):
            self._close_requests = subject(response.close_requests)

    async def publish(self, trigger: Trigger) -> None:
        """Publish, and return once the server says that it is stored.

        Raises a BrokerError: NoAck where it may be stored, any other where it certainly is not.
        """
        request = PubMsg(
            client_id=self._client_id,
            guid=trigger.msg_id,
            subject=trigger.subject,
            data=trigger.payload,
            conn_id=self._conn_id,
        )

        def check(ack: PubAck) -> None:
            # An empty body, as of another service's answer, reads as an acknowledgement without error.
            if ack.guid != trigger.msg_id:
                raise Malformed("it acknowledges another message")
            if ack.error:
                raise Refusal(ack.error)

        await self._ask(f"{self._publish_prefix}.{trigger.subject}", request, PubAck, check, Phase.PUBLISH)

    async def leave(self) -> tuple[str, ...]:
        """Give the registration up, in bounded time, and return what went wrong as warnings. Raises nothing.

        The server forgets a client that is gone by itself, after minutes. Not even the end of our time is passed on:
        what became of the message is known by now, and this must not change it.
        """
        if not (self._close_requests and self._connection.client.is_connected):
            return ()
        request = CloseRequest(client_id=self._client_id)
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                response = await self._ask(self._close_requests, request, CloseResponse, lambda _: None, Phase.JOIN)
            problem = response.error
        except BrokerError as error:
            problem = error.message
        except (TimeoutError, asyncio.CancelledError):
            problem = "no answer in time"
        return (
            (f"NATS Streaming has not closed the registration of client {self._client_id}: {problem}",)
            if problem
            else ()
        )

    async def leave_word(self) -> None:
        """Send word that the registration is given up, and await nothing. Raises nothing."""
        with suppress(Exception):
            await self._connection.client.publish(
                self._close_requests, CloseRequest(client_id=self._client_id).encode()
            )

    async def _ask(self, to: str, request: Message, kind: type[M], check: Callable[[M], None], phase: Phase) -> M:
        """Return the answer to a request, checked. Raises a BrokerError."""

        async def ask() -> M:
            message = await self._connection.client.request(to, request.encode(), timeout=self._connection.patience)
            answer = kind.decode(message.data)
            check(answer)
            return answer

        return await self._connection.ask(ask(), to, phase)
