"""The command line: flags in, one call, one answer out, and the one gate that every failure passes."""

# No `from __future__ import annotations` here: Typer would compile every option's annotation from its text, on every
# run. Hence the quoted names below, of classes that not every command loads.

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main

from crypto_trigger import __version__, signals
from crypto_trigger.errors import ConfigError, Interrupted, Outcome, Status, TriggerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crypto_trigger.render import Output
    from crypto_trigger.settings import Settings
    from crypto_trigger.trigger import Receipt, Trigger

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


class Run:
    """One run of one command: what is known so far, so that a failure can be told in full."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.output: Output | None = None
        self.settings: Settings | None = None
        self.trigger: Trigger | None = None
        self.reports = False
        self.report_file: str | None = None

    def begin(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> "Output":
        """Take the form of the output."""
        from crypto_trigger.render import Output

        self.output = Output(as_json=as_json, quiet=quiet, verbose=verbose)
        return self.output

    def load(self, env_file: str | None, **flags: str | None) -> "Settings":
        """Load the settings; raises ConfigError."""
        from crypto_trigger.settings import load

        settings = self.settings = load(flags, env_file, os.environ)
        self.report_file = settings.report_file
        if self.output:
            self.output.keep_secret(settings.secrets)
            for warning in settings.warnings:
                self.output.warn(warning)
        return settings

    def fail(self, error: BaseException) -> int:
        """Tell a failure and return its status."""
        # A signal in the middle of the telling would end it with a traceback.
        signals.settle()
        status, outcome = int(Status.BUG), Outcome.BUG
        if isinstance(error, TriggerError):
            status, outcome = error.exit_status, error.outcome
        if isinstance(error, ConfigError) and self.settings is None:
            self.report_file = str(error.known.get("report_file") or "") or None
        output = self.output or self.begin()
        from crypto_trigger.render import error_line

        if isinstance(error, TriggerError):
            output.failure(error_line(error))
        else:
            output.traceback(error)
            output.failure("this is a bug in crypto-trigger; please report it with the lines above")
        self._report(output, status, outcome, error)
        return status

    def succeed(self, line: str, receipt: "Receipt | None", outcome: Outcome) -> None:
        """Tell how a publish went, on stdout and in the report file."""
        if self.output:
            self.output.settle()
            for warning in receipt.warnings if receipt else ():
                self.output.warn(warning)
            if not self.output.as_json:
                self.output.answer(line, {})
            self._report(self.output, Status.OK, outcome, None, receipt)

    def _report(
        self,
        output: "Output",
        status: int,
        outcome: Outcome,
        error: BaseException | None,
        receipt: "Receipt | None" = None,
    ) -> None:
        from crypto_trigger.notify import write_report
        from crypto_trigger.render import report

        data = report(
            outcome=outcome,
            status=status,
            settings=self.settings,
            trigger=self.trigger,
            receipt=receipt,
            error=error,
            attempts=receipt.attempts if receipt else getattr(error, "attempts", 0),
            elapsed=time.monotonic() - self.started,
        )
        if output.as_json:
            output.answer("", data)
        if self.reports and self.report_file and (problem := write_report(self.report_file, output.json(data))):
            output.warn(problem)


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run a command line and return the exit status. Prints; raises nothing."""
    signals.install()
    run = Run()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            # A subject may hold letters that a terminal's encoding lacks: shown escaped is better than a traceback.
            stream.reconfigure(errors="backslashreplace")
    try:
        program(argv, prog_name="crypto-trigger", obj=run)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(Status.BUG)
    except signals.Signalled as signalled:
        return run.fail(Interrupted(signalled.signum, "interrupted before anything was sent"))
    except Exception as error:  # noqa: BLE001 - the gate
        if isinstance(error, OSError) and run.output is None:
            # Typer's own words, help or what is wrong with the command line, went to a full disk.
            from crypto_trigger.render import abandon_full

            abandon_full()
            return int(getattr(error.__context__, "exit_code", Status.OK))
        return run.fail(error)
    return int(Status.OK)


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
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    run.reports = True
    run.report_file = report_file
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
    from crypto_trigger.render import dry_run_line, receipt_line

    if dry_run:
        run.succeed(dry_run_line(trigger, settings), None, Outcome.DRY_RUN)
        return
    import asyncio

    from crypto_trigger.brokers import publisher
    from crypto_trigger.delivery import Limits, deliver

    deliverer = publisher(settings)
    receipt = asyncio.run(deliver(trigger, deliverer, Limits.from_settings(settings), output.waiting))
    guard = f"; guard: {receipt.guard}" if receipt.guard else ""
    output.detail(f"{receipt.server} answered attempt {receipt.attempts}{guard}")
    run.succeed(receipt_line(receipt, trigger), receipt, receipt.outcome)


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
    update: Annotated[
        bool, typer.Option("--update", help="Change an existing stream, only in what one trigger per slot needs.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be created or changed; change nothing.")
    ] = False,
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

    from crypto_trigger.brokers.setup import StreamSetup
    from crypto_trigger.delivery import Limits, Persistence
    from crypto_trigger.render import setup_data, setup_line

    attempt = StreamSetup(settings, replicas, update=update, dry_run=dry_run)
    try:
        done = asyncio.run(Persistence(Limits.from_settings(settings), output.waiting).run(attempt))
    except Interrupted as error:
        raise attempt.interrupted(error.signum) from error
    output.detail(f"{done.server} answered")
    if done.status is Status.OK:
        output.answer(setup_line(done), setup_data(done))
        return
    output.failure(f"{setup_line(done)}; {done.hint}")
    if as_json:
        output.answer("", setup_data(done))
    raise typer.Exit(done.status)


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
    table = "" if as_json else output.table(rows, ("name", "value", "origin", "meaning"))
    output.answer(table, {"settings": list(rows)})


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
