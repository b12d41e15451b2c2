"""The result of a run: one frozen value, made once at the end. Every output is a view of it."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple, Self, assert_never

from crypto_trigger import __version__
from crypto_trigger.errors import Outcome, Status, TriggerError
from crypto_trigger.settings.load import Settings
from crypto_trigger.settings.values import Delivery
from crypto_trigger.slots.times import now
from crypto_trigger.slots.trigger import Receipt, Trigger


class Failure:
    """Why a run failed: the kind of error, the message for the operator, and a hint what to do, if there is one.

    `perhaps` is True if the action may have been done in spite of the failure, else None. `kind` is that of the
    `TriggerError`, or, for a bug, the class name of the exception.
    """

    def __init__(self, kind: str, message: str, hint: str | None = None, perhaps: bool | None = None) -> None:
        self.kind: Final = kind
        self.message: Final = message
        self.hint: Final = hint
        self.perhaps: Final = perhaps

    @property
    def data(self) -> dict[str, str | bool]:
        """The keys that apply, and their values."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Return what is reported of an exception."""
        if isinstance(error, TriggerError):
            return cls(error.kind, error.message, error.hint or None, error.perhaps or None)
        return cls(type(error).__name__, str(error))


class Report(NamedTuple):
    """The result of a run. A field that does not apply or is not known is None. docs/report.md describes each field.

    The field names are the keys of the JSON object. Other programs read it, so no key may change its meaning.
    """

    outcome: Outcome
    status: int
    time: datetime
    version: str
    elapsed_ms: int
    delivery: Delivery | None = None
    subject: str | None = None
    stream: str | None = None
    cluster: str | None = None
    seq: int | None = None
    msg_id: str | None = None
    scheduled_at: datetime | None = None
    superseded_by: datetime | None = None
    guard: str | None = None
    attempts: int | None = None
    server: str | None = None
    servers: tuple[str, ...] | None = None
    client_id: str | None = None
    subscriber: bool | None = None
    rehearsal: bool | None = None
    would_be: Outcome | None = None
    warnings: tuple[str, ...] | None = None
    error: Failure | None = None

    @classmethod
    def now(cls, outcome: Outcome, status: int, elapsed: float) -> Self:
        """Return the report of a run that ends now, `elapsed` seconds after it began."""
        return cls(outcome, int(status), now(), __version__, round(elapsed * 1000))

    def with_settings(self, settings: Settings) -> Self:
        """Return the report with what the settings say: where the run delivers to, and its client ID."""
        client_id = self.client_id or settings.client_id
        known = self._replace(delivery=settings.delivery, subject=settings.subject, client_id=client_id)
        match settings.delivery:
            case Delivery.JETSTREAM:
                return known._replace(stream=settings.stream)
            case Delivery.STREAMING:
                return known._replace(cluster=settings.cluster_id)
            case Delivery.CORE:
                return known
            case _:
                assert_never(settings.delivery)

    def with_trigger(self, trigger: Trigger) -> Self:
        """Return the report with the trigger that the run was to deliver."""
        return self._replace(msg_id=trigger.msg_id, scheduled_at=trigger.slot.start)

    def with_receipt(self, receipt: Receipt) -> Self:
        """Return the report with the result of the delivery."""
        return self._replace(
            seq=receipt.seq,
            guard=receipt.guard,
            attempts=receipt.attempts,
            server=receipt.server,
            client_id=receipt.client_id or self.client_id,
            subscriber=receipt.subscriber,
            superseded_by=receipt.later.start if receipt.later else None,
        ).with_warnings(receipt.warnings)

    def with_rehearsal(self, receipt: Receipt) -> Self:
        """Return the report of a rehearsal with its result: with JetStream, the outcome of a publish at this moment."""
        known = self.with_receipt(receipt)
        match self.delivery:
            case Delivery.JETSTREAM:
                return known._replace(would_be=receipt.outcome)
            case Delivery.CORE | Delivery.STREAMING | None:
                return known
            case _:
                assert_never(self.delivery)

    def with_warnings(self, warnings: Sequence[str]) -> Self:
        """Return the report with `warnings` added after its own."""
        return self._replace(warnings=(*(self.warnings or ()), *warnings) or None)

    def with_error(self, error: BaseException) -> Self:
        """Return the report with the reason for the failure, and the number of attempts if there were any."""
        return self._replace(error=Failure.of(error), attempts=getattr(error, "attempts", 0) or None)


def verdict(error: BaseException) -> tuple[Outcome, int]:
    """Return the outcome and the exit status of a run that ends with this exception."""
    if isinstance(error, TriggerError):
        return error.outcome, error.exit_status
    return Outcome.BUG, int(Status.BUG)
