"""Rehearse a delivery: as a publish of the trigger, with the same retries and errors, but nothing is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from crypto_trigger.delivery import Publisher, deliver
from crypto_trigger.errors import TriggerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crypto_trigger.draft import Draft
    from crypto_trigger.retry import Limits, Wait
    from crypto_trigger.settings import Settings
    from crypto_trigger.trigger import Receipt


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
