"""What a run came to: one frozen value, made once at its end. Every output is a view of it."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Self, assert_never

from crypto_trigger import __version__
from crypto_trigger.errors import Outcome, Status, TriggerError
from crypto_trigger.settings import Settings
from crypto_trigger.trigger import Receipt, Trigger
from crypto_trigger.values import Delivery


class Failure(NamedTuple):
    """Why a run failed: the kind of error, the sentence the operator reads, and the next thing to do if there is one.

    `perhaps` is True where what was asked for may have been done all the same, and else None. The kind is a
    `TriggerError`'s, or the class of the exception that a bug raised.
    """

    kind: str
    message: str
    hint: str | None = None
    perhaps: bool | None = None

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Return what is told of an exception."""
        if isinstance(error, TriggerError):
            return cls(error.kind, error.message, error.hint or None, error.perhaps or None)
        return cls(type(error).__name__, str(error))


class Report(NamedTuple):
    """What a run came to; what does not apply or is not known is None. docs/report.md describes each field.

    The names are the keys of the JSON object that operators' programs read: none may change its meaning.
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
    warnings: tuple[str, ...] | None = None
    error: Failure | None = None

    @classmethod
    def now(cls, outcome: Outcome, status: int, elapsed: float) -> Self:
        """Return the report of a run that ends now, `elapsed` seconds after it began."""
        return cls(outcome, int(status), datetime.now(UTC), __version__, round(elapsed * 1000))

    def with_settings(self, settings: Settings) -> Self:
        """Return the report with what the settings say of every run: where it delivers, and as whom."""
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
        """Return the report with what became of the trigger."""
        return self._replace(
            seq=receipt.seq,
            guard=receipt.guard,
            attempts=receipt.attempts,
            server=receipt.server,
            client_id=receipt.client_id or self.client_id,
            subscriber=receipt.subscriber,
            superseded_by=receipt.later.start if receipt.later else None,
        ).with_warnings(receipt.warnings)

    def with_warnings(self, warnings: Sequence[str]) -> Self:
        """Return the report with these warnings behind those it has."""
        return self._replace(warnings=(*(self.warnings or ()), *warnings) or None)

    def with_error(self, error: BaseException) -> Self:
        """Return the report with why the run failed, and after how many attempts if there were any."""
        return self._replace(error=Failure.of(error), attempts=getattr(error, "attempts", 0) or None)


def verdict(error: BaseException) -> tuple[Outcome, int]:
    """Return what a run that ends with this exception comes to, and its exit status."""
    if isinstance(error, TriggerError):
        return error.outcome, error.exit_status
    return Outcome.BUG, int(Status.BUG)
