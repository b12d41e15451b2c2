"""JetStream: publish one trigger per slot, by compare-and-set on the subject's last message and by msg id."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crypto_trigger.brokers.access import Access
from crypto_trigger.brokers.connection import Connection, connect
from crypto_trigger.brokers.stream import Last, LostRace, Stream
from crypto_trigger.errors import Outcome, Unavailable
from crypto_trigger.trigger import Receipt, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from crypto_trigger.settings import Settings

# ADR-8's header: the message is stored only if this is still the sequence of the subject's last one.
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
_RACES = 20
_RACE_WAIT = 0.01


class Publisher:
    """Publishes triggers, one attempt a call: connect, read the subject's last message, publish, close."""

    def __init__(self, settings: Settings) -> None:
        """Prepare credentials and certificates. Raises ConfigError where they do not fit."""
        self._settings = settings
        self._access = Access.from_settings(settings)
        self._turn = 0

    async def publish(self, trigger: Trigger, on_wire: Callable[[bool], None]) -> Receipt:
        """Make one attempt; `on_wire` is told True before the message may leave, False once it is known not stored.

        Raises a BrokerError: NoAck where the message may be stored, any other where it certainly is not.
        """
        turn, self._turn = self._turn, self._turn + 1
        async with connect(self._settings, self._access, turn) as connection:
            stream = Stream(connection, self._settings, self._access)
            for _ in range(_RACES):
                last = await stream.last(trigger.subject)
                if not trigger.force and (receipt := self._already(trigger, last, connection)):
                    return receipt
                on_wire(True)
                try:
                    return await self._store(trigger, last, stream)
                except LostRace:
                    on_wire(False)
                    # Another run is ahead by a hair: what it stored may be readable a moment from now.
                    await asyncio.sleep(_RACE_WAIT)
        raise Unavailable(f"{connection.server}: other messages kept coming first on {trigger.subject}")

    def _already(self, trigger: Trigger, last: Last, connection: Connection) -> Receipt | None:
        """Return the receipt of a slot that needs nothing any more, or None."""
        if last.stored is None:
            return None
        slot = last.stored.slot(self._settings.every, self._settings.early)
        if slot.start < trigger.slot.start:
            return None
        return Receipt(
            outcome=Outcome.DUPLICATE if slot.start == trigger.slot.start else Outcome.SUPERSEDED,
            stream=self._settings.stream,
            seq=last.stored.seq,
            guard="compare-and-set",
            server=str(connection.server),
        )

    async def _store(self, trigger: Trigger, last: Last, stream: Stream) -> Receipt:
        if trigger.force:
            guard, headers = "none", dict(trigger.headers)
        elif last.permitted:
            guard, headers = (
                "compare-and-set",
                {**trigger.headers, EXPECTED_LAST: str(last.stored.seq if last.stored else 0)},
            )
        else:
            guard, headers = "msg-id", dict(trigger.headers)
        seq, duplicate = await stream.publish(trigger, headers, known=last.stored is not None)
        warnings = () if trigger.force or last.stored else await stream.window_warning(self._settings.every)
        return Receipt(
            outcome=Outcome.DUPLICATE if duplicate else Outcome.PUBLISHED,
            stream=self._settings.stream,
            seq=seq,
            guard=guard,
            server=str(stream.connection.server),
            warnings=warnings,
        )
