"""Rehearse a publish to JetStream: publish on a condition that cannot hold, so that the stream refuses the message.

A publish does not load this module.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from crypto_trigger.delivery.jetstream import EXPECTED_LAST, Publisher
from crypto_trigger.delivery.stream import Last, LostRace, Stream
from crypto_trigger.errors import BadPeer, BrokerError, Fact, Outcome
from crypto_trigger.slots.trigger import EVENT_ID, MSG_ID, Receipt, Trigger

if TYPE_CHECKING:
    from crypto_trigger.connection.connection import Connection
    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.delivery.draft import Draft

# A sequence that no message has: the largest signed integer of 64 bits. nats-server reads it as one.
_BEYOND_ANY = str(2**63 - 1)
MARK = "rehearsal:"


class Rehearsal(Publisher):
    """Rehearses a trigger, one attempt per call: connect, read, publish what the stream must refuse, close."""

    stored = False

    async def publish(self, draft: Draft, attempt: Attempt) -> Receipt:
        """Make one attempt. The receipt has the outcome of a publish at this moment: nothing was stored.

        Fails as a publish would fail (see `delivery.Publisher`).
        """
        async with self._servers.connect(attempt) as connection:
            stream = Stream(connection, self._settings)
            last = await self._read(stream, draft, attempt)
            trigger = draft.trigger
            headers = {**_refusable(trigger), **self.conditions(stream)}
            attempt.sent = True
            try:
                await stream.publish(trigger, headers, known=last.stored is not None)
            except LostRace as refusal:
                attempt.sent = False
                last = await self._held(stream, last, refusal, draft)
            else:
                self.stored = True
                raise _stored(f"{connection.server}: stream {stream.name}")
            receipt = None if trigger.force else await self._already(draft, last, stream)
            receipt = receipt or self._receipt(Outcome.PUBLISHED, None, trigger, last, stream)
            return receipt.warned(*self._doubts(connection))

    def again(self) -> str:
        """Return a hint for a rehearsal that got no answer to its message."""
        if not (self._info and self._info.config.get("no_ack")):
            return ""
        from crypto_trigger.settings.command_line import command_line

        update = command_line(self._settings, "setup", "--update")
        return f"stream {self._settings.stream} acknowledges nothing (no_ack); change that with: {update}"

    def _doubts(self, connection: Connection) -> tuple[str, ...]:
        """Return a warning if a stream of this server may have refused, and not that of the domain."""
        domain = self._settings.js_domain
        if domain in (None, connection.domain):
            return ()
        stream, subject = self._settings.stream, self._settings.subject
        warning = (
            f"a refusal does not name its JetStream domain: if this server has a stream {stream}, too, whether "
            f"{subject} reaches that of {domain} is not known"
        )
        return (warning,)

    async def _held(self, stream: Stream, last: Last, refusal: LostRace, draft: Draft) -> Last:
        """Return what the subject holds, read again if the refusal names another last message than was read.

        With a domain, the refusal may be that of another stream of the same name.
        """
        read = last.stored.seq if last.stored else 0
        if self._settings.js_domain or not last.permitted or refusal.seq in (None, read):
            return last
        return await self._read_again(stream, last, refusal, draft)


def _stored(where: str) -> BrokerError:
    error = BadPeer(
        f"{where} has stored a rehearsal, on a condition that cannot hold",
        "does another service answer in the place of JetStream?",
        Fact.NOT_JETSTREAM,
    )
    error.perhaps = True
    return error


def _refusable(trigger: Trigger) -> dict[str, str]:
    """Return the headers of the trigger with the condition and with IDs of their own.

    The trigger's own msg id must stay unused. A stream of several replicas on nats-server 2.10 or 2.11 notes the msg id
    of a message that it refuses by its condition, and then drops the trigger. A stream that has the trigger may answer
    "duplicate" before it looks at the condition. A subscriber may go by `ce-id` in the same way.

    The IDs are as long as the trigger's, because the size of a message is limited.
    """
    ids = {name: _marked(len(trigger.headers[name].encode())) for name in (MSG_ID, EVENT_ID)}
    return {**trigger.headers, **ids, EXPECTED_LAST: _BEYOND_ANY}


def _marked(length: int) -> str:
    return (MARK + os.urandom(length).hex())[:length]
