"""Deliver one trigger with retries, and say in the end whether it may be stored. Does not depend on nats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from crypto_trigger.retry import GaveUp, Limits, Retry, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from crypto_trigger.draft import Draft
    from crypto_trigger.retry import Attempt
    from crypto_trigger.trigger import Receipt


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
