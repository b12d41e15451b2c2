"""The command `check`, as its options ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_trigger.findings import Thresholds, window_length
from crypto_trigger.freshness import check_since
from crypto_trigger.lookback import length, looking_back, wrong
from crypto_trigger.masking import shown
from crypto_trigger.values import format_duration, name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from crypto_trigger.freshness import Cadence
    from crypto_trigger.plugin import CheckRun


def check(
    run: CheckRun,
    *,
    env_files: Sequence[str] | None = None,
    since: str = "1h",
    grace: str | None = None,
    missed_warn: int = 1,
    missed_critical: int = 2,
    consumer: Sequence[str] | None = None,
    consumer_warn: str | None = None,
    consumer_critical: str | None = None,
    output_format: str | None = None,
    output_file: str | None = None,
    on_change: str | None = None,
    as_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    **flags: str | None,
) -> None:
    """Check that every slot has its trigger. Raises a TriggerError: Usage, ConfigError or a BrokerError."""
    run.prepare(output_format, output_file, on_change, quiet=quiet, verbose=verbose, as_json=as_json)
    settings = run.load(env_files, **flags)
    back, cadence = looking_back(settings, since, grace)
    limits = _thresholds(cadence, missed_warn, missed_critical, consumer_warn, consumer_critical)
    run.check(settings, _window(back, cadence, limits), cadence, limits, _consumer_names(consumer))


def _window(since: timedelta, cadence: Cadence, thresholds: Thresholds) -> timedelta:
    """Return how far back slots are looked at. Raises Usage if a threshold asks for too many of them."""
    back = window_length(since, cadence.every, thresholds)
    try:
        check_since(back, cadence.every)
    except ValueError as error:
        counted = (thresholds.missed_critical + 1) * cadence.every == back
        option = "--missed-critical" if counted else "--consumer-critical"
        value = str(thresholds.missed_critical) if counted else format_duration(thresholds.consumer_critical)
        raise wrong(option, f"'{value}' {error}") from None
    return back


def _thresholds(
    cadence: Cadence, missed_warn: int, missed_critical: int, consumer_warn: str | None, consumer_critical: str | None
) -> Thresholds:
    """Return from when on what is found is bad. Raises Usage."""
    warn = cadence.grace if consumer_warn is None else length("--consumer-warn", consumer_warn, zero=True)
    critical = (
        cadence.every if consumer_critical is None else length("--consumer-critical", consumer_critical, zero=True)
    )
    if missed_warn > missed_critical:
        raise wrong("--missed-warn", f"{missed_warn} is more than --missed-critical {missed_critical}")
    if warn > critical:
        raise wrong(
            "--consumer-warn",
            f"{format_duration(warn)}{'' if consumer_warn else ' (the grace)'} is longer than --consumer-critical "
            f"{format_duration(critical)}{'' if consumer_critical else ' (one slot)'}",
        )
    return Thresholds(missed_warn, missed_critical, warn, critical)


def _consumer_names(named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of consumers, each once. Raises Usage."""
    found = tuple(dict.fromkeys(named or ()))
    for each in found:
        try:
            name(each)
        except ValueError as error:
            raise wrong("--consumer", f"'{shown(each)}' {error}") from None
    return found
