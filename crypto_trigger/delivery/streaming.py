"""NATS Streaming (end of life in 2023), for systems that still run it: register, publish, await the answer, close.

The server does not recognise duplicates. It registers one client per client ID: while that client answers the server's
heartbeats, others are refused; when it does not, the next one replaces it.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from crypto_trigger.connection.phases import Phase, Refusal
from crypto_trigger.connection.servers import Servers
from crypto_trigger.delivery.streaming_wire import (
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
from crypto_trigger.settings.values import subject
from crypto_trigger.slots.trigger import Receipt, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.msg import Msg

    from crypto_trigger.connection.connection import Connection
    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.delivery.draft import Draft
    from crypto_trigger.settings.load import Settings

M = TypeVar("M", bound=Message)
_PROTOCOL = 1
# How long closing a registration may take, in seconds. The official clients have the same limit.
_CLOSE_SECONDS = 2.0


class Publisher:
    """Publishes triggers, one attempt per call: connect, register, publish, await the acknowledgement, close."""

    def __init__(self, settings: Settings) -> None:
        """Load credentials and certificates. Raises ConfigError if they cannot be used."""
        self._settings = settings
        self._servers = Servers(settings)
        self._client_id = settings.client_id + ("" if settings.client_id_exact else f"-{os.urandom(4).hex()}")
        self._registered_again = False

    async def publish(self, draft: Draft, attempt: Attempt) -> Receipt:
        """Make one attempt (see `delivery.Publisher`)."""
        async with self._servers.connect(attempt) as connection:
            trigger = draft.fix(None)
            registration = await self._register(connection)
            attempt.sent = True
            try:
                await registration.publish(trigger)
            except BrokerError as error:
                attempt.sent = error.perhaps
                if error.fact == Fact.CLIENT_UNKNOWN:
                    # Not closed: another process may have the client ID by now, and the server closes by ID alone.
                    raise self._register_again(error) from error.__cause__
                await registration.close()
                raise
            except asyncio.CancelledError:
                # There is no time left for an answer. If no other process can have the client ID, the request is safe.
                if not self._settings.client_id_exact:
                    await registration.send_close()
                raise
            return Receipt(
                outcome=Outcome.PUBLISHED,
                server=str(connection.server),
                client_id=self._client_id,
                warnings=await registration.close(),
            )

    async def _register(self, connection: Connection) -> Registration:
        registration = Registration(connection, self._client_id)
        await registration.open(f"{self._settings.discover_prefix}.{self._settings.cluster_id}")
        return registration

    def _register_again(self, error: BrokerError) -> BrokerError:
        """Return the error as a retryable one, once: the server may have lost our registration.

        That happens when it restarts with a memory store, or when another process takes the client ID.
        """
        if self._registered_again:
            return error
        self._registered_again = True
        return Unavailable(error.message, error.hint, error.fact, error.said)

    def again(self) -> str:
        """Return a hint about running again, for a trigger that may be stored."""
        return "running it again may store it twice"


class Rehearsal(Publisher):
    """Rehearses a trigger, one attempt per call, up to the publish: connect, register, close."""

    stored = False

    async def publish(self, draft: Draft, attempt: Attempt) -> Receipt:
        """Make one attempt. Fails as a publish would fail (see `delivery.Publisher`)."""
        async with self._servers.connect(attempt) as connection:
            draft.fix(None)
            registration = await self._register(connection)
            return Receipt(
                outcome=Outcome.REHEARSED,
                server=str(connection.server),
                client_id=self._client_id,
                warnings=await registration.close(),
            )


class Registration:
    """The registration of one client ID with the streaming server, over one connection."""

    def __init__(self, connection: Connection, client_id: str) -> None:
        self._connection = connection
        self._client_id = client_id
        self._conn_id = os.urandom(11).hex().encode()
        self._publish_prefix = ""
        self._close_requests = ""

    async def open(self, discover: str) -> None:
        """Register on the subject `discover`, and answer the server's heartbeats from then on. Raises a BrokerError."""
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
            # Standalone servers before 0.20.0 chose a prefix of their own, so the one in the response is used.
            subject(response.pub_prefix)

        response = await self._ask(discover, request, ConnectResponse, check, Phase.JOIN)
        self._publish_prefix = response.pub_prefix
        with suppress(ValueError):
            self._close_requests = subject(response.close_requests)

    async def publish(self, trigger: Trigger) -> None:
        """Publish the trigger, and return once the server has acknowledged that it is stored.

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
            # An empty answer, for example of another service, would decode as an acknowledgement without error.
            if ack.guid != trigger.msg_id:
                raise Malformed("it acknowledges another message")
            if ack.error:
                raise Refusal(ack.error)

        await self._ask(f"{self._publish_prefix}.{trigger.subject}", request, PubAck, check, Phase.PUBLISH)

    async def close(self) -> tuple[str, ...]:
        """Close the registration within 2 seconds, and return what went wrong as warnings. Raises nothing.

        If it is not closed, the server removes it after some minutes. A cancellation at the deadline is not raised,
        either: the result of the publish is known by now and must not change.
        """
        if not (self._close_requests and self._connection.client.is_connected):
            return ()
        request = CloseRequest(client_id=self._client_id)
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                response = await self._ask(self._close_requests, request, CloseResponse, lambda _: None, Phase.JOIN)
            problem = response.error
        except BrokerError as error:
            problem = error.message
        except (TimeoutError, asyncio.CancelledError):
            problem = "no answer in time"
        if not problem:
            return ()
        warning = (
            f"NATS Streaming has not closed the registration of client {self._client_id}: {problem}; "
            "the server removes it after some minutes"
        )
        return (warning,)

    async def send_close(self) -> None:
        """Send the request to close the registration, and await no answer. Raises nothing."""
        with suppress(Exception):
            await self._connection.client.publish(
                self._close_requests, CloseRequest(client_id=self._client_id).encode()
            )

    async def _ask(self, to: str, request: Message, kind: type[M], check: Callable[[M], None], phase: int) -> M:
        """Return the answer to a request, checked. Raises a BrokerError."""

        async def ask() -> M:
            message = await self._connection.request(to, request.encode())
            answer = kind.decode(message.data)
            check(answer)
            return answer

        return await self._connection.ask(ask(), to, phase)
