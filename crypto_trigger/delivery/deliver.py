"""Deliver one trigger with retries, or rehearse that, and say whether it may be stored. Does not depend on nats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from crypto_trigger.deadline.retry import GaveUp, Limits, Retry, Wait
from crypto_trigger.errors import TriggerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crypto_trigger.deadline.retry import Attempt
    from crypto_trigger.delivery.draft import Draft
    from crypto_trigger.settings.load import Settings
    from crypto_trigger.slots.trigger import Receipt


class Publisher(Protocol):
    """A way to deliver: one attempt per call."""

    async def publish(self, draft: Draft, attempt: Attempt) -> Receipt:
        """Make one attempt; `attempt.sent` is True while the message may have been sent and may be stored.

        Fixes the draft's slot before it sends anything. Raises a BrokerError: NoAck where the message may be stored,
        any other where it certainly is not; ConfigError where the draft's time does not fit the server's.
        """

    def again(self) -> str:
        """Return a hint about running again, for a trigger that may be stored."""


async def deliver(
    draft: Draft,
    publisher: Publisher,
    limits: Limits,
    on_wait: Callable[[Wait], None] = lambda _: None,
) -> Receipt:
    """Deliver the draft's trigger and return its receipt.

    Raises a BrokerError (NoAck if the trigger may be stored), Interrupted, or ConfigError.
    """
    retry = Retry(limits, on_wait)
    try:
        receipt = await retry.run(lambda attempt: publisher.publish(draft, attempt))
    except GaveUp as end:
        raise end.error(publisher.again()) from end.last
    if not draft.fixed:
        raise RuntimeError("the publisher delivered a trigger whose slot it had not fixed")
    return receipt.after(retry.attempts)


class Rehearsal(Publisher, Protocol):
    """A way to rehearse a delivery: one attempt per call.

    `stored` is True if the server says that it has stored the message, which it should have refused.
    """

    stored: bool


async def rehearse(draft: Draft, rehearsal: Rehearsal, limits: Limits, on_wait: Callable[[Wait], None]) -> Receipt:
    """Rehearse the delivery of the draft's trigger. Return the receipt, and raise the errors, that `deliver` would.

    Such an error is not `perhaps`, whatever became of the message, unless the server says that it has stored it.
    """
    try:
        return await deliver(draft, rehearsal, limits, on_wait)
    except TriggerError as error:
        error.perhaps = rehearsal.stored
        raise


def accepted(settings: Settings, receipt: Receipt) -> str:
    """Describe in words which credentials the server of a receipt has accepted. Shows no secret."""
    server = next(server for server in settings.servers if str(server) == receipt.server)
    return f"{receipt.server} accepts {settings.credentials_in_force(server)}"
