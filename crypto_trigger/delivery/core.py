"""Core NATS: publish to the subscribers that listen at the moment. Nothing is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_trigger.connection.phases import Phase
from crypto_trigger.connection.servers import Servers
from crypto_trigger.errors import Fact, Outcome, Unavailable, Unusable
from crypto_trigger.slots.trigger import Receipt

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

    from crypto_trigger.connection.connection import Connection
    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.delivery.draft import Draft
    from crypto_trigger.settings.load import Settings

_STATUS = "Status"
_NO_RESPONDERS = "503"


class Publisher:
    """Publishes triggers, one attempt per call: connect, publish, wait until the server has processed it, close."""

    def __init__(self, settings: Settings) -> None:
        """Load credentials and certificates. Raises ConfigError if they cannot be used."""
        self._settings = settings
        self._servers = Servers(settings)

    async def publish(self, draft: Draft, attempt: Attempt) -> Receipt:
        """Make one attempt (see `delivery.Publisher`). Raises Unavailable also if a required subscriber is missing."""
        required = self._settings.require_subscriber
        async with self._servers.connect(attempt) as connection:
            trigger = draft.fix(None)
            client = connection.client
            statuses = await self._statuses(connection) if required else None
            headers = dict(trigger.headers) if connection.takes_headers else None
            attempt.sent = True
            sending = client.publish(
                trigger.subject, trigger.payload, statuses.subject if statuses else "", headers=headers
            )
            await connection.ask(sending, trigger.subject, Phase.PUBLISH)
            await connection.processed(trigger.subject, Phase.CONFIRM)
            # The status arrives before the answer to our PING. If a stream takes the subject, its acknowledgement comes
            # to the same inbox.
            if statuses and statuses.pending_msgs:
                answer = await connection.ask(statuses.next_msg(), statuses.subject, Phase.CONFIRM)
                nobody = (answer.headers or {}).get(_STATUS) == _NO_RESPONDERS
            else:
                nobody = False
            if nobody:
                attempt.sent = False
                raise Unavailable(
                    f"{connection.server}: nobody listens on {trigger.subject}",
                    "start the subscriber, or publish without --require-subscriber",
                    Fact.NO_SUBSCRIBER,
                )
            return Receipt(outcome=Outcome.PUBLISHED, server=str(connection.server), subscriber=required or None)

    def again(self) -> str:
        """Return a hint about running again, for a trigger that may have arrived."""
        return "running it again may deliver it twice"

    async def _statuses(self, connection: Connection) -> Subscription:
        """Return a subscription that gets the server's status "no responders" (503) if nobody listens.

        The server has processed the subscription, so if no status comes, somebody listens. Raises a BrokerError;
        Unusable if the server does not send that status.
        """
        if not connection.takes_headers:
            raise Unusable(
                f"{connection.server}: the server cannot tell whether anybody listens",
                "this needs NATS 2.2 or later with headers; or publish without --require-subscriber",
                Fact.SERVER_TOO_OLD,
            )
        inbox = connection.client.new_inbox()
        subscription = await connection.client.subscribe(inbox)
        await connection.processed(inbox, Phase.CONNECT)
        return subscription


class Rehearsal(Publisher):
    """Rehearses a trigger, one attempt per call, up to the publish: nothing is sent on its subject."""

    stored = False

    async def publish(self, draft: Draft, attempt: Attempt) -> Receipt:
        """Make one attempt. Fails as a publish would fail (see `delivery.Publisher`)."""
        async with self._servers.connect(attempt) as connection:
            trigger = draft.fix(None)
            if self._settings.require_subscriber:
                await self._statuses(connection)
            await connection.processed(trigger.subject, Phase.CONNECT)
            return Receipt(outcome=Outcome.REHEARSED, server=str(connection.server))
