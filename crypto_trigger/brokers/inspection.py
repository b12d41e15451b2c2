"""Read what `check` looks at: what the stream holds of the subject, and how far its consumers are."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from crypto_trigger.brokers.held import Held, read, servers_that_store, together
from crypto_trigger.brokers.stream import NANOSECONDS, Stream
from crypto_trigger.errors import BrokerError, Fact, Unusable
from crypto_trigger.findings import Consumer
from crypto_trigger.masking import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crypto_trigger.retry import Attempt
    from crypto_trigger.settings import Settings

# A leader that was frozen learns within this time, in seconds, that there is another one: from its first heartbeat.
_SETTLES = 1.0
# So many of the consumers that exist are named in place of one that does not.
_MOST_NAMED = 10


class Inspection:
    """Reads what the stream of the settings holds, back to `back` before now, and its consumers.

    `seems_bad` tells whether what was read is bad news. From a cluster it is read once more before it is believed: a
    leader that was frozen answers once from its past. Each call makes one attempt.
    """

    def __init__(
        self,
        settings: Settings,
        back: timedelta,
        consumers: Sequence[str],
        seems_bad: Callable[[Held, Sequence[Consumer]], bool] = lambda *_: False,
    ) -> None:
        """Load credentials and certificates. Raises ConfigError if they cannot be used, or nothing is stored."""
        self._servers = servers_that_store(settings)
        self._settings = settings
        self._back = back
        self._consumers = tuple(dict.fromkeys(consumers))
        self._seems_bad = seems_bad

    async def __call__(self, attempt: Attempt) -> tuple[Held, Sequence[Consumer]]:
        """Make one attempt. Raises a BrokerError; Unusable if missed slots cannot be told from consumed triggers."""
        async with self._servers.connect(attempt) as connection:
            held, consumers = await self._look(Stream(connection, self._settings), attempt)
        held.require_memory()
        return held, consumers

    async def _look(self, stream: Stream, attempt: Attempt) -> tuple[Held, Sequence[Consumer]]:
        """Read, and read once more what seems bad in a cluster."""
        try:
            held, consumers = await self._read(stream)
        except Unusable:
            if not stream.connection.clustered:
                raise
            await asyncio.sleep(min(_SETTLES, attempt.share()))
            return await self._read(stream)
        if held.is_clustered and self._seems_bad(held, consumers):
            # What was seen counts if there is no time to look again, or nobody answers any more.
            with suppress(TimeoutError, BrokerError):
                async with asyncio.timeout(attempt.share()):
                    await asyncio.sleep(min(_SETTLES, attempt.share() / 2))
                    return await self._read(stream)
        return held, consumers

    async def _read(self, stream: Stream) -> tuple[Held, Sequence[Consumer]]:
        held, *consumers = await together(
            read(stream, self._settings.subject, self._back),
            *(consumer(stream, name) for name in self._consumers),
        )
        if any(found.floor > held.last_seq for found in consumers):
            # A message may have been stored, and acknowledged, after the first answer.
            held = held._replace(last_seq=(await stream.info()).last_seq)
        return held, tuple(found._replace(beyond=found.floor > held.last_seq) for found in consumers)


async def consumer(stream: Stream, name: str) -> Consumer:
    """Ask the consumer's leader how far it is. Raises a BrokerError."""
    try:
        answer = await stream.request(f"CONSUMER.INFO.{stream.name}.{name}", {})
    except BrokerError as error:
        if error.fact == Fact.NO_CONSUMER:
            return await _missing(stream, name)
        raise
    config = answer.get("config")
    if answer.get("name") != name or not isinstance(config, dict):
        raise stream.nonsense(f"is not about consumer {name}")
    floor, delivered = (_sequence(stream, answer, key) for key in ("ack_floor", "delivered"))
    acknowledges, begun = config.get("ack_policy") != "none", answer["delivered"].get("consumer_seq") != 0
    # Before 2.14 the floor of a consumer that begins later in the stream is 0 until its first acknowledgement.
    if not acknowledges or not begun:
        floor = max(floor, delivered)
    # And what was delivered ends with the stream, even if the consumer begins later.
    begins = config.get("opt_start_seq")
    if config.get("deliver_policy") == "by_start_sequence" and type(begins) is int:
        floor = max(floor, begins - 1)
    waiting = [answer.get(key) for key in ("num_pending", "num_ack_pending")]
    remaining = answer.get("pause_remaining")
    paused = remaining / NANOSECONDS if type(remaining) is int and remaining > 0 else 0.0
    return Consumer(
        name,
        takes=_subjects(config),
        floor=floor,
        paused=timedelta(seconds=paused) if answer.get("paused") is True else None,
        idle=waiting == [0, 0],
        acknowledges=acknowledges,
        begun=begun,
    )


async def _missing(stream: Stream, name: str) -> Consumer:
    """Return a consumer that does not exist, with the names of those that do, where they may be read."""
    try:
        answer = await stream.request(f"CONSUMER.NAMES.{stream.name}", {})
    except BrokerError:
        return Consumer(name, exists=False)
    names, total = answer.get("consumers"), answer.get("total")
    found = [other for other in names if isinstance(other, str)] if isinstance(names, list) else []
    count = max(len(found), total) if type(total) is int else len(found)
    others = tuple(map(escaped, found[:_MOST_NAMED]))
    return Consumer(name, exists=False, others=others, more=count - len(others))


def _sequence(stream: Stream, answer: Mapping[str, Any], key: str) -> int:
    place = answer.get(key)
    found = place.get("stream_seq") if isinstance(place, dict) else None
    # `True` is an int in Python, but it is not a sequence.
    if type(found) is not int or found < 0:
        raise stream.nonsense(f"has no {key}")
    return found


def _subjects(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the subjects that a consumer takes; none means all."""
    several, one = config.get("filter_subjects"), config.get("filter_subject")
    found = several if isinstance(several, list) and several else [one]
    return tuple(subject for subject in found if isinstance(subject, str) and subject)
