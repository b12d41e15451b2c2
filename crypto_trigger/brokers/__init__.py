"""Connections to NATS servers. Only the modules of this package import nats; they turn its errors into ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from crypto_trigger.values import Delivery

if TYPE_CHECKING:
    from crypto_trigger.delivery import Publisher
    from crypto_trigger.settings import Settings


def publisher(settings: Settings) -> Publisher:
    """Return the publisher for the delivery in the settings. Raises ConfigError for credentials that cannot be used."""
    # Only the module of this delivery is loaded.
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
