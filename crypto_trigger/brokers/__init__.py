"""The servers as we see them: the only rooms that import nats, and where nats-py's errors become ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from crypto_trigger.values import Delivery

if TYPE_CHECKING:
    from crypto_trigger.delivery import Publisher
    from crypto_trigger.settings import Settings


def publisher(settings: Settings) -> Publisher:
    """Return the publisher of the delivery that is set. Raises ConfigError for credentials that do not fit."""
    # One way to deliver is loaded, not all of them.
    match settings.delivery:
        case Delivery.JETSTREAM:
            from crypto_trigger.brokers import jetstream

            return jetstream.Publisher(settings)
        case Delivery.CORE:
            from crypto_trigger.brokers import core

            return core.Publisher(settings)
        case Delivery.STREAMING:
            from crypto_trigger.brokers import streaming

            return streaming.Publisher(settings)
        case _:
            assert_never(settings.delivery)
