"""Read what `check` looks at: what the stream holds of the subject, and how far its consumers are."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from crypto_trigger.brokers.held import Held, read, servers_that_store, together
from crypto_trigger.brokers.stream import NANOSECONDS, Stream
from crypto_trigger.errors import BrokerError, Fact
from crypto_trigger.findings import Consumer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crypto_trigger.retry import Attempt
    from crypto_trigger.settings import Settings


class Inspection:
    """Reads what the stream of the settings holds, back to `back` before now, and its consumers.

    Each call makes one attempt.
    """

    def __init__(self, settings: Settings, back: timedelta, consumers: Sequence[str]) -> None:
        """Load credentials and certificates. Raises ConfigError if they cannot be used, or nothing is stored."""
        self._servers = servers_that_store(settings)
        self._settings = settings
        self._back = back
        self._consumers = tuple(dict.fromkeys(consumers))

    async def __call__(self, attempt: Attempt) -> tuple[Held, tuple[Consumer, ...]]:
        """Make one attempt. Raises a BrokerError; Unusable if missed slots cannot be told from consumed triggers."""
        async with self._servers.connect(attempt) as connection:
            stream = Stream(connection, self._settings)
            held, *consumers = await together(
                read(stream, self._settings.subject, self._back),
                *(consumer(stream, name) for name in self._consumers),
            )
        held.require_memory()
        return held, tuple(consumers)


async def consumer(stream: Stream, name: str) -> Consumer:
    """Ask the consumer's leader how far it is. Raises a BrokerError."""
    try:
        answer = await stream.request(f"CONSUMER.INFO.{stream.name}.{name}", {})
    except BrokerError as error:
        if error.fact == Fact.NO_CONSUMER:
            return Consumer(name, exists=False)
        raise
    config = answer.get("config")
    if answer.get("name") != name or not isinstance(config, dict):
        raise stream.nonsense(f"is not about consumer {name}")
    floor, delivered = (_sequence(stream, answer, key) for key in ("ack_floor", "delivered"))
    # Before 2.14 the floor of a consumer that begins later in the stream is 0 until its first acknowledgement.
    if config.get("ack_policy") == "none" or answer["delivered"].get("consumer_seq") == 0:
        floor = max(floor, delivered)
    waiting = [answer.get(key) for key in ("num_pending", "num_ack_pending")]
    remaining = answer.get("pause_remaining")
    paused = remaining / NANOSECONDS if type(remaining) is int and remaining > 0 else 0.0
    return Consumer(
        name,
        takes=_subjects(config),
        floor=floor,
        paused=timedelta(seconds=paused) if answer.get("paused") is True else None,
        idle=waiting == [0, 0],
    )


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
