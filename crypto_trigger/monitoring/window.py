"""How far back to look and what counts as late, from the options of check, history and listen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_trigger.errors import Usage
from crypto_trigger.monitoring.coverage import Cadence, check_since
from crypto_trigger.settings.masking import shown
from crypto_trigger.slots.times import duration, format_duration, tolerance

if TYPE_CHECKING:
    from datetime import timedelta

    from crypto_trigger.settings.load import Settings

_GRACE_DIVISOR = 3


def length(option: str, raw: str, *, zero: bool = False) -> timedelta:
    """Return the duration that an option gives; `zero` allows `0s`. Raises Usage."""
    try:
        return tolerance(raw) if zero else duration(raw)
    except ValueError as error:
        raise wrong(option, f"'{shown(raw)}' {error}") from None


def looking_back(settings: Settings, since: str, grace: str | None) -> tuple[timedelta, Cadence]:
    """Return how far back to look, and how often triggers are due. Raises Usage."""
    back = length("--since", since)
    allowed = settings.every / _GRACE_DIVISOR if grace is None else length("--grace", grace, zero=True)
    try:
        check_since(back, settings.every)
    except ValueError as error:
        raise wrong("--since", f"'{shown(since)}' {error}") from None
    if allowed > settings.every:
        slot = format_duration(settings.every)
        raise wrong("--grace", f"'{shown(grace or '')}' is longer than a slot, {slot}")
    return back, Cadence(settings.every, settings.early, allowed)


def wrong(option: str, problem: str) -> Usage:
    """Return the error for an option whose value is wrong."""
    return Usage(f"Invalid value for {option}: {problem}")
