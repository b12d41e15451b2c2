"""The commands that watch what was delivered, and their options: check, history and listen.

A publish does not load this module: it would spend more on these options than on its own.
"""

# No `from __future__ import annotations` here: Typer would compile every option's annotation from its text, on every
# run.

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from crypto_trigger import options
from crypto_trigger.setting import Group

if TYPE_CHECKING:
    from datetime import timedelta

    from crypto_trigger.findings import Thresholds
    from crypto_trigger.freshness import Cadence
    from crypto_trigger.plugin import CheckRun
    from crypto_trigger.run import Run
    from crypto_trigger.settings import Settings

_GRACE_DIVISOR = 3
# Groups of options in the help, beside those of the settings.
_THRESHOLDS, _CONSUMERS, _END = "Missed slots", "Consumers", "End"

app = typer.Typer()
Since = Annotated[str, typer.Option(metavar="DURATION", help="How far back to look.", rich_help_panel=Group.TIME)]
MaybeSince = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="Print the triggers of this time first.  [default: only new ones]",
        rich_help_panel=Group.TIME,
    ),
]
Grace = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="How long after its start a slot without a trigger is not yet late.  [default: a third of a slot]",
        rich_help_panel=Group.TIME,
    ),
]
Svg = Annotated[
    str | None, typer.Option(metavar="PATH", help="Write the picture to this file.", rich_help_panel=Group.OUTPUT)
]
MissedWarn = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="WARNING if so many slots, or more, were missed.", rich_help_panel=_THRESHOLDS
    ),
]
MissedCritical = Annotated[
    int,
    typer.Option(
        min=1, metavar="N", help="CRITICAL if so many slots, or more, were missed.", rich_help_panel=_THRESHOLDS
    ),
]
Consumer = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Check that this consumer has acknowledged the triggers. May be given several times.",
        rich_help_panel=_CONSUMERS,
    ),
]
ConsumerWarn = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="WARNING if a consumer has not acknowledged a trigger for longer.  [default: the grace]",
        rich_help_panel=_CONSUMERS,
    ),
]
ConsumerCritical = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION",
        help="CRITICAL if a consumer has not acknowledged a trigger for longer.  [default: one slot]",
        rich_help_panel=_CONSUMERS,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="Format of the answer: nagios, json or prometheus.  [default: nagios]",
        rich_help_panel=Group.OUTPUT,
    ),
]
OutputFile = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="File that is replaced by the answer; stdout stays empty.", rich_help_panel=Group.OUTPUT
    ),
]
Count = Annotated[
    int | None,
    typer.Option("--count", min=1, metavar="N", help="End after so many triggers.", rich_help_panel=_END),
]
For = Annotated[
    str | None, typer.Option("--for", metavar="DURATION", help="End after this time.", rich_help_panel=_END)
]
JsonLines = Annotated[
    bool, typer.Option("--json", help="Print each trigger as one JSON object.", rich_help_panel=Group.OUTPUT)
]


@app.command(epilog="Example: crypto-trigger check --give-up-after 8s --consumer api-server")
def check(
    context: typer.Context,
    env_file: options.EnvFile = None,
    since: Since = "1h",
    grace: Grace = None,
    missed_warn: MissedWarn = 1,
    missed_critical: MissedCritical = 2,
    consumer: Consumer = None,
    consumer_warn: ConsumerWarn = None,
    consumer_critical: ConsumerCritical = None,
    output_format: Format = None,
    output_file: OutputFile = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Check that every slot has its trigger. The exit status is 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN."""
    run: CheckRun = context.obj
    run.prepare(output_format, output_file, quiet=quiet, verbose=verbose, as_json=as_json)
    settings = run.load(env_file, **flags)
    back, cadence = looking_back(settings, since, grace)
    limits = thresholds(cadence, missed_warn, missed_critical, consumer_warn, consumer_critical)
    run.check(settings, back, cadence, limits, consumer_names(consumer))


@app.command(epilog="Example: crypto-trigger history --since 7d --svg history.svg")
def history(
    context: typer.Context,
    env_file: options.EnvFile = None,
    since: Since = "24h",
    grace: Grace = None,
    svg: Svg = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Show every slot of the last day: triggered, late or missed."""
    run: Run = context.obj
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    settings = run.load(env_file, **flags)
    back, cadence = looking_back(settings, since, grace)
    from crypto_trigger.brokers.held import Reader
    from crypto_trigger.history import History
    from crypto_trigger.views import show_history

    # The first slot may have begun almost a slot before, and its trigger may be early.
    held = run.attempt(settings, Reader(settings, back + settings.every + settings.early))
    output.detail(held.answered)
    held.require_memory()
    found = History.of(held.messages, held.first, held.now, back, cadence, held.subject, settings.stream)
    show_history(found, output, svg)


@app.command(epilog="Example: crypto-trigger listen --count 1 --for 30s")
def listen(
    context: typer.Context,
    env_file: options.EnvFile = None,
    count: Count = None,
    run_for: For = None,
    since: MaybeSince = None,
    as_json: JsonLines = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Print each trigger as it arrives: what the API server would see."""
    run: Run = context.obj
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose, lines=True)
    lasts = length("--for", run_for) if run_for is not None else None
    back = length("--since", since) if since is not None else None
    settings = run.load(env_file, **flags)
    from crypto_trigger.brokers import source
    from crypto_trigger.listener import Bounds, Listener, start_of_process
    from crypto_trigger.retry import Limits, complete

    started = start_of_process(run.started) if run.is_process else run.started
    limits = Limits.from_settings(settings, run.reading)
    triggers = source(settings, started, back)
    bounds = Bounds(count, lasts, started)
    complete(Listener(triggers, settings.subject, bounds, limits, output, output.note).run())


def length(option: str, raw: str, *, zero: bool = False) -> "timedelta":
    """Return the duration that an option gives; `zero` allows `0s`. Raises BadParameter (status 2)."""
    from crypto_trigger.masking import shown
    from crypto_trigger.values import duration, tolerance

    try:
        return tolerance(raw) if zero else duration(raw)
    except ValueError as error:
        raise typer.BadParameter(f"'{shown(raw)}' {error}", param_hint=option) from None


def looking_back(settings: "Settings", since: str, grace: str | None) -> "tuple[timedelta, Cadence]":
    """Return how far back to look, and how often triggers are due. Raises BadParameter (status 2)."""
    from crypto_trigger.freshness import Cadence, check_since
    from crypto_trigger.masking import shown
    from crypto_trigger.values import format_duration

    back = length("--since", since)
    allowed = settings.every / _GRACE_DIVISOR if grace is None else length("--grace", grace, zero=True)
    try:
        check_since(back, settings.every)
    except ValueError as error:
        raise typer.BadParameter(f"'{shown(since)}' {error}", param_hint="--since") from None
    if allowed > settings.every:
        slot = format_duration(settings.every)
        raise typer.BadParameter(f"'{shown(grace or '')}' is longer than a slot, {slot}", param_hint="--grace")
    return back, Cadence(settings.every, settings.early, allowed)


def thresholds(
    cadence: "Cadence", missed_warn: int, missed_critical: int, consumer_warn: str | None, consumer_critical: str | None
) -> "Thresholds":
    """Return from when on what `check` finds is bad. Raises BadParameter (status 2)."""
    from crypto_trigger.findings import Thresholds
    from crypto_trigger.values import format_duration

    warn = cadence.grace if consumer_warn is None else length("--consumer-warn", consumer_warn, zero=True)
    critical = (
        cadence.every if consumer_critical is None else length("--consumer-critical", consumer_critical, zero=True)
    )
    if missed_warn > missed_critical:
        raise typer.BadParameter(
            f"{missed_warn} is more than --missed-critical {missed_critical}", param_hint="--missed-warn"
        )
    if warn > critical:
        raise typer.BadParameter(
            f"{format_duration(warn)}{'' if consumer_warn else ' (the grace)'} is longer than --consumer-critical "
            f"{format_duration(critical)}{'' if consumer_critical else ' (one slot)'}",
            param_hint="--consumer-warn",
        )
    return Thresholds(missed_warn, missed_critical, warn, critical)


def consumer_names(named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of consumers, each once. Raises BadParameter (status 2)."""
    from crypto_trigger.masking import shown
    from crypto_trigger.values import name

    found = tuple(dict.fromkeys(named or ()))
    for each in found:
        try:
            name(each)
        except ValueError as error:
            raise typer.BadParameter(f"'{shown(each)}' {error}", param_hint="--consumer") from None
    return found
