"""The command line: flags in, one call, one answer out."""

# No `from __future__ import annotations` here: Typer would compile every option's annotation from its text, on every
# run. Hence the quoted names below, of classes that not every command loads.

import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main

from crypto_trigger import __version__, signals
from crypto_trigger.errors import ConfigError, Interrupted, Status, Usage
from crypto_trigger.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crypto_trigger.render import Output
    from crypto_trigger.settings import Settings
    from crypto_trigger.trigger import Trigger

# Values stay text here and are parsed in settings, where a flag's bad value is reported as any other layer's is.
Server = Annotated[
    str | None, typer.Option("--server", "-s", metavar="URL", help="NATS servers, separated by commas.  [NATS_URL]")
]
Subject = Annotated[str | None, typer.Option(metavar="NAME", help="Subject of the trigger.  [CRYPTO_TRIGGER_SUBJECT]")]
Stream = Annotated[
    str | None, typer.Option(metavar="NAME", help="Stream that stores the trigger.  [CRYPTO_TRIGGER_STREAM]")
]
Delivery = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="How to deliver: jetstream, core or streaming.  [CRYPTO_TRIGGER_DELIVERY]"),
]
EnvFile = Annotated[
    str | None, typer.Option(metavar="PATH", help="File of settings, NAME=value a line; else .env if there is one.")
]
Timeout = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Longest wait for one answer.  [CRYPTO_TRIGGER_TIMEOUT]")
]
GiveUpAfter = Annotated[
    str | None, typer.Option(metavar="DURATION", help="Deadline for everything.  [CRYPTO_TRIGGER_GIVE_UP_AFTER]")
]
Every = Annotated[str | None, typer.Option(metavar="DURATION", help="Length of a slot.  [CRYPTO_TRIGGER_EVERY]")]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No answer on stdout; the status tells.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell on stderr what happens.")]

app = typer.Typer()


class Commands(typer.core.TyperGroup):
    """The commands of `app`, each built when it is asked for.

    Typer's own group builds all of them on every run, a dozen options each: that takes longer than the publishing.
    """

    def list_commands(self, _: Any) -> list[str]:  # noqa: ANN401 - Typer's context is of a private type
        """Return the names, in the order of the help."""
        return [_name(command) for command in app.registered_commands]

    def get_command(self, _: Any, cmd_name: str) -> Any:  # noqa: ANN401 - likewise
        """Return the command of that name, or None."""
        asked = [command for command in app.registered_commands if _name(command) == cmd_name]
        # A name that is none of them is answered with a similar one, looked for among all.
        for command in asked or app.registered_commands:
            alone = typer.Typer(rich_markup_mode=None, add_completion=False)
            alone.registered_commands = [command]
            self.commands[_name(command)] = typer.main.get_command(alone)
        return self.commands.get(cmd_name)


# rich's help and tracebacks would cost more than the whole run, and its tracebacks show local variables.
program = typer.Typer(
    cls=Commands,
    help="Publish one trigger to NATS per time slot, and exit with a status that means something.",
    epilog="Exit statuses: 0 in the stream; 75 perhaps; 2, 65, 69, 76, 77, 78 not; 70 a bug. See README.md.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run a command line and return the exit status. Prints; raises nothing."""
    signals.install()
    run = Run()
    said, complained = StringIO(), StringIO()
    try:
        # The parser would wait for ever where nobody reads: what it says is printed as everything else is.
        try:
            with redirect_stdout(said), redirect_stderr(complained):
                program(argv, prog_name="crypto-trigger", obj=run)
        finally:
            run.output.pass_on(said.getvalue(), complained.getvalue())
    except SystemExit as end:
        if end.code == Status.USAGE:
            run.refuse(Usage(_complaint(end)), _report_file(sys.argv[1:] if argv is None else argv))
        return end.code if isinstance(end.code, int) else int(Status.BUG)
    except signals.Signalled as signalled:
        return run.fail(Interrupted(signalled.signum, "interrupted before anything was sent"))
    except Exception as error:  # noqa: BLE001 - the gate
        return run.fail(error)
    return int(Status.OK)


def _complaint(end: SystemExit) -> str:
    """Return what the parser found wrong: it ends the program while it handles an error of its own."""
    said = getattr(end.__context__, "format_message", None)
    return str(said()) if said else "the command line is wrong"


def _report_file(argv: "Sequence[str]") -> str | None:
    """Return the report file that a wrong command line names, or for `publish` the environment."""
    named = os.environ.get("CRYPTO_TRIGGER_REPORT_FILE", "") if "publish" in argv else ""
    for word, after in zip_longest(argv, argv[1:], fillvalue=""):
        option, equals, value = word.partition("=")
        if option == "--report-file":
            named = value if equals else after
    return named or None


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"crypto-trigger {__version__}")
        raise typer.Exit


@program.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def publish(
    context: typer.Context,
    server: Server = None,
    subject: Subject = None,
    stream: Stream = None,
    delivery: Delivery = None,
    env_file: EnvFile = None,
    timeout: Timeout = None,
    give_up_after: GiveUpAfter = None,
    every: Every = None,
    scheduled_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The time this run stands for, RFC 3339.  [CRYPTO_TRIGGER_SCHEDULED_AT]"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Publish though the slot has its trigger.")] = False,
    require_subscriber: Annotated[
        bool,
        typer.Option(
            "--require-subscriber",
            help="Fail where nobody listens (delivery core).  [CRYPTO_TRIGGER_REQUIRE_SUBSCRIBER]",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be published; connect to nothing.")
    ] = False,
    report_file: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Write the report here, as JSON.  [CRYPTO_TRIGGER_REPORT_FILE]"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Deliver this slot's trigger: with jetstream one, however often this runs."""
    run: Run = context.obj
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose, reports=True)
    settings = run.load(
        env_file,
        servers=server,
        subject=subject,
        stream=stream,
        delivery=delivery,
        timeout=timeout,
        give_up_after=give_up_after,
        every=every,
        scheduled_at=scheduled_at,
        require_subscriber="true" if require_subscriber else None,
        report_file=report_file,
    )
    trigger = run.trigger = _trigger(settings, output, force=force)
    if dry_run:
        run.dry_run(settings)
        return
    import asyncio

    from crypto_trigger.brokers import publisher
    from crypto_trigger.delivery import Limits, deliver

    deliverer = publisher(settings)
    receipt = asyncio.run(deliver(trigger, deliverer, Limits.from_settings(settings), output.waiting))
    guard = f"; guard: {receipt.guard}" if receipt.guard else ""
    output.detail(f"{receipt.server} answered attempt {receipt.attempts}{guard}")
    run.succeed(receipt)


@app.command()
def setup(
    context: typer.Context,
    server: Server = None,
    subject: Subject = None,
    stream: Stream = None,
    delivery: Delivery = None,
    env_file: EnvFile = None,
    timeout: Timeout = None,
    give_up_after: GiveUpAfter = None,
    every: Every = None,
    replicas: Annotated[
        int | None, typer.Option(min=1, max=5, help="Copies of the stream in a cluster; 1 on creation if not given.")
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Change an existing stream where it differs.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Create the stream, or say how the existing one differs."""
    run: Run = context.obj
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    settings = run.load(
        env_file,
        servers=server,
        subject=subject,
        stream=stream,
        delivery=delivery,
        timeout=timeout,
        give_up_after=give_up_after,
        every=every,
    )
    import asyncio

    from crypto_trigger.brokers.setup import Change, SetUp
    from crypto_trigger.delivery import Limits, Persistence
    from crypto_trigger.render import setup_data, setup_line

    attempt = SetUp(settings, replicas, update=update)
    done = asyncio.run(Persistence(Limits.from_settings(settings), output.waiting).run(attempt))
    output.detail(f"{done.server} answered")
    if done.change is Change.DIFFERS:
        output.failure(f"{setup_line(done)}; reconcile with: crypto-trigger setup --update")
        if as_json:
            output.answer("", setup_data(done))
        raise typer.Exit(Status.CONFIG)
    output.answer(setup_line(done), setup_data(done))


@app.command()
def config(
    context: typer.Context,
    server: Server = None,
    subject: Subject = None,
    stream: Stream = None,
    delivery: Delivery = None,
    env_file: EnvFile = None,
    timeout: Timeout = None,
    give_up_after: GiveUpAfter = None,
    every: Every = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Show every setting, its value and where it came from."""
    run: Run = context.obj
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    settings = run.load(
        env_file,
        servers=server,
        subject=subject,
        stream=stream,
        delivery=delivery,
        timeout=timeout,
        give_up_after=give_up_after,
        every=every,
    )
    from crypto_trigger.settings import explain

    rows = explain(settings)
    output.answer(output.settings(rows), {"settings": list(rows)})


@app.command()
def demo(
    context: typer.Context,
    stay: Annotated[
        bool, typer.Option("--stay", help="Keep the server up and print every trigger, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The server's port; 4222 with --stay, else a free one.")
    ] = None,
) -> None:
    """See it all work against a throw-away server."""
    run: Run = context.obj
    output = run.begin()
    from crypto_trigger import demo as story

    if stay:
        story.stay(output, port or 4222)
    else:
        story.tell(output, port or -1)


def _name(command: typer.models.CommandInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", ""))


def _trigger(settings: "Settings", output: "Output", *, force: bool) -> "Trigger":
    """Return the trigger of the slot this run stands for, which the whole run keeps."""
    import socket
    from datetime import UTC, datetime

    from crypto_trigger.trigger import Trigger, slot_of_run, source_of, trace_headers

    try:
        slot, warning = slot_of_run(
            datetime.now(UTC), settings.every, settings.early, settings.scheduled_at, settings.k8s_job
        )
    except (ValueError, OverflowError) as error:
        raise ConfigError(settings.source("scheduled_at").problem(str(error))) from None
    if warning:
        output.warn(settings.source("k8s_job").problem(warning))
    return Trigger.for_slot(
        slot,
        settings.subject,
        source_of(settings.client_id, socket.gethostname()),
        trace_headers(settings.traceparent, settings.tracestate),
        extra=os.urandom(4).hex() if force else "",
    )
