"""What a delivery is made of: its publisher, its rehearsal, and where a listener gets its triggers from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, assert_never

from crypto_trigger.errors import ConfigError
from crypto_trigger.settings.values import Delivery

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta

    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.delivery.deliver import Publisher, Rehearsal
    from crypto_trigger.settings.load import Settings
    from crypto_trigger.slots.arrival import Arrival


def publisher(settings: Settings) -> Publisher:
    """Return the publisher for the delivery in the settings. Raises ConfigError for credentials that cannot be used."""
    # Only the module of this delivery is loaded.
    match settings.delivery:
        case Delivery.JETSTREAM:
            from crypto_trigger.delivery import jetstream

            return jetstream.Publisher(settings)
        case Delivery.CORE:
            from crypto_trigger.delivery import core

            return core.Publisher(settings)
        case Delivery.STREAMING:
            from crypto_trigger.delivery import streaming

            return streaming.Publisher(settings)
        case _:
            assert_never(settings.delivery)


def rehearsal(settings: Settings) -> Rehearsal:
    """Return the rehearsal of the delivery in the settings. Raises ConfigError as `publisher` does."""
    match settings.delivery:
        case Delivery.JETSTREAM:
            from crypto_trigger.delivery import rehearsal as jetstream_rehearsal

            return jetstream_rehearsal.Rehearsal(settings)
        case Delivery.CORE:
            from crypto_trigger.delivery import core

            return core.Rehearsal(settings)
        case Delivery.STREAMING:
            from crypto_trigger.delivery import streaming

            return streaming.Rehearsal(settings)
        case _:
            assert_never(settings.delivery)


def source(settings: Settings, started: float, since: timedelta | None) -> Source:
    """Return where a listener gets its triggers from: those since `since` before now, or since `started`.

    `started` is a time of `time.monotonic()`. Raises ConfigError for credentials that cannot be used, and for a
    delivery that cannot do it.
    """
    match settings.delivery:
        case Delivery.JETSTREAM:
            from crypto_trigger.delivery import follower

            return follower.Follower(settings, started, since)
        case Delivery.CORE:
            if since:
                raise ConfigError(
                    settings.source("delivery").problem(
                        "stores nothing: --since needs CRYPTO_TRIGGER_DELIVERY=jetstream"
                    )
                )
            from crypto_trigger.delivery import subscriber

            return subscriber.Subscriber(settings)
        case Delivery.STREAMING:
            only = "is only for publishing: listen needs CRYPTO_TRIGGER_DELIVERY=jetstream or core"
            raise ConfigError(settings.source("delivery").problem(only))
        case _:
            assert_never(settings.delivery)


class Messages(Protocol):
    """The triggers of one connection. `server` is its server, with what is to be known of it."""

    server: str

    async def next(self) -> Arrival:
        """Return the next trigger. Raises a BrokerError if no more come from this connection."""


class Source(Protocol):
    """Where triggers come from. `misses` tells whether those that come while there is no connection are lost."""

    misses: bool

    def open(self, attempt: Attempt) -> AbstractAsyncContextManager[Messages]:
        """Connect and subscribe: the block begins when no trigger can be missed any more. Raises a BrokerError."""
