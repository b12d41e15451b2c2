"""The commands that watch what was delivered, and their options: check, history and listen.

A publish does not load this module: it would spend more on these options than on its own.
"""

# No `from __future__ import annotations` here: Typer would compile every option's annotation from its text, on every
# run.

from typing import TYPE_CHECKING, Annotated

import typer

from crypto_trigger.commands import options
from crypto_trigger.commands.ending import limits_of
from crypto_trigger.settings.setting import Group

if TYPE_CHECKING:
    from crypto_trigger.commands.ending import Run

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
OnChange = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Print only if the result is another one than this file says, or if it has not been OK for a day since it "
        "was printed. The file keeps it.",
        rich_help_panel=Group.OUTPUT,
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
    env_files: options.EnvFiles = None,
    since: Since = "1h",
    grace: Grace = None,
    missed_warn: MissedWarn = 1,
    missed_critical: MissedCritical = 2,
    consumer: Consumer = None,
    consumer_warn: ConsumerWarn = None,
    consumer_critical: ConsumerCritical = None,
    output_format: Format = None,
    output_file: OutputFile = None,
    on_change: OnChange = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Check that every slot has its trigger. The exit status is 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN."""
    from crypto_trigger.commands.check import check as run_check

    run_check(
        context.obj.run,
        env_files=env_files,
        since=since,
        grace=grace,
        missed_warn=missed_warn,
        missed_critical=missed_critical,
        consumer=consumer,
        consumer_warn=consumer_warn,
        consumer_critical=consumer_critical,
        output_format=output_format,
        output_file=output_file,
        on_change=on_change,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        **flags,
    )


@app.command(epilog="Example: crypto-trigger history --since 7d --svg history.svg")
def history(
    context: typer.Context,
    env_files: options.EnvFiles = None,
    since: Since = "24h",
    grace: Grace = None,
    svg: Svg = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Show every slot of the last day: triggered, late or missed."""
    run: Run = context.obj.run
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    if as_json and svg is not None:
        from crypto_trigger.commands.history import refuse_two_answers

        refuse_two_answers(svg)
    settings = run.load(env_files, **flags)
    from crypto_trigger.commands.history import show_history
    from crypto_trigger.delivery.reading import Reader
    from crypto_trigger.monitoring.history import History
    from crypto_trigger.monitoring.verdict import clock_went_back
    from crypto_trigger.monitoring.window import looking_back

    back, cadence = looking_back(settings, since, grace)
    # The first slot may have begun almost a slot before, and its trigger may be early.
    held = run.attempt(settings, Reader(settings, back + settings.every + settings.early))
    output.detail(held.answered)
    held.require_memory()
    found = History.of(held.messages, held.first, held.now, back, cadence, held.subject, settings.stream, held.memory)
    show_history(found, output, svg, clock_went_back(held, cadence))


@app.command(epilog="Example: crypto-trigger listen --count 1 --for 30s")
def listen(
    context: typer.Context,
    env_files: options.EnvFiles = None,
    count: Count = None,
    run_for: For = None,
    since: MaybeSince = None,
    as_json: JsonLines = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Print each trigger as it arrives: what the API server would see."""
    run: Run = context.obj.run
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose, lines=True)
    from crypto_trigger.monitoring.window import length

    lasts = length("--for", run_for) if run_for is not None else None
    back = length("--since", since) if since is not None else None
    settings = run.load(env_files, **flags)
    from crypto_trigger.commands.listen import Bounds, Listener, start_of_process
    from crypto_trigger.deadline.retry import complete
    from crypto_trigger.delivery.choice import source

    started = start_of_process(run.started) if run.is_process else run.started
    limits = limits_of(settings, run.reading)
    triggers = source(settings, started, back)
    bounds = Bounds(count, lasts, started)
    complete(Listener(triggers, settings.subject, bounds, limits, output, output.note).run())
