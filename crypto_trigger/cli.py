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

from crypto_trigger import __version__, options, signals
from crypto_trigger.errors import ConfigError, Interrupted, Outcome, Status, TriggerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crypto_trigger.draft import Draft
    from crypto_trigger.render import Output
    from crypto_trigger.settings import Settings
    from crypto_trigger.trigger import Receipt

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
            assert command.callback is not None  # noqa: S101 - `app.command` gave it one
            completed = options.with_settings(command.callback)
            alone.command(_name(command), cls=options.Command, epilog=command.epilog)(completed)
            self.commands[_name(command)] = typer.main.get_command(alone)
        return self.commands.get(cmd_name)


# rich's help and tracebacks would cost more than the whole run, and its tracebacks show local variables.
program = typer.Typer(
    cls=Commands,
    help="Publish one trigger to NATS per time slot, and exit with a status that means something.",
    epilog=(
        "The exit status tells whether the trigger is in the stream. 0: it is. 75: perhaps. 2, 65, 69, 76, 77, 78: it "
        "is not. 70: a bug.\n\nExample: crypto-trigger publish --server nats://localhost:4222"
    ),
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
        self.reading = 0.0
        self.output: Output | None = None
        self.settings: Settings | None = None
        self.draft: Draft | None = None
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

        began = time.monotonic()
        settings = self.settings = load(flags, env_file, os.environ, began)
        self.reading = time.monotonic() - began
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

        self._tell_draft(output)
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
            self._tell_draft(self.output)
            for warning in receipt.warnings if receipt else ():
                self.output.warn(warning)
            if not self.output.as_json:
                self.output.answer(line, {})
            self._report(self.output, Status.OK, outcome, None, receipt)

    def _tell_draft(self, output: "Output") -> None:
        if self.draft:
            for warning in self.draft.warnings:
                output.warn(warning)
            for detail in self.draft.details:
                output.detail(detail)

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
            trigger=self.draft.trigger if self.draft else None,
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


@app.command(epilog="Example: crypto-trigger publish --server nats://localhost:4222 --every 1h")
def publish(
    context: typer.Context,
    env_file: options.EnvFile = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Deliver this slot's trigger. With delivery jetstream it is stored once, however often this runs."""
    run: Run = context.obj
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    run.reports = True
    run.report_file = flags["report_file"]
    settings = run.load(env_file, **flags)
    import socket
    from datetime import UTC, datetime

    from crypto_trigger.draft import Draft
    from crypto_trigger.render import dry_run_line, receipt_line

    draft = Draft(settings, datetime.now(UTC), socket.gethostname(), force=force, offline=dry_run)
    run.draft = draft
    if dry_run:
        from crypto_trigger.brokers.access import Access

        Access.from_settings(settings)  # what a publish loads before it connects
        run.succeed(dry_run_line(draft.fix(None), settings), None, Outcome.DRY_RUN)
        return
    from crypto_trigger.brokers import publisher
    from crypto_trigger.delivery import deliver
    from crypto_trigger.retry import Limits, complete

    deliverer = publisher(settings)
    limits = Limits.from_settings(settings, run.reading)
    receipt = complete(deliver(draft, deliverer, limits, output.waiting))
    guard = f"; guard: {receipt.guard}" if receipt.guard else ""
    output.detail(f"{receipt.server} answered attempt {receipt.attempts}{guard}")
    run.succeed(receipt_line(receipt, draft.trigger), receipt, receipt.outcome)


@app.command(epilog="Example: crypto-trigger setup --server nats://localhost:4222 --replicas 3")
def setup(
    context: typer.Context,
    env_file: options.EnvFile = None,
    replicas: options.Replicas = None,
    update: options.Update = False,
    dry_run: options.SetupDryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Create the stream, or say how the existing one differs."""
    run: Run = context.obj
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    settings = run.load(env_file, **flags)
    from crypto_trigger.brokers.setup import StreamSetup
    from crypto_trigger.render import setup_data, setup_line
    from crypto_trigger.retry import GaveUp, Limits, Retry, complete

    attempt = StreamSetup(settings, replicas, update=update, dry_run=dry_run)
    limits = Limits.from_settings(settings, run.reading)
    try:
        done = complete(Retry(limits, output.waiting).run(attempt))
    except GaveUp as end:
        raise attempt.error(end) from end.last
    output.detail(f"{done.server} answered")
    if done.status is Status.OK:
        output.answer(setup_line(done), setup_data(done))
        return
    output.failure(f"{setup_line(done)}; {done.hint}")
    if as_json:
        output.answer("", setup_data(done))
    raise typer.Exit(done.status)


@app.command(epilog="Example: crypto-trigger config --env-file /etc/crypto-trigger.env")
def config(
    context: typer.Context,
    env_file: options.EnvFile = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Show every setting, its value and where it came from."""
    run: Run = context.obj
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    settings = run.load(env_file, **flags)
    from crypto_trigger.settings import explain

    rows = explain(settings)
    table = "" if as_json else output.table(rows, ("name", "value", "origin", "meaning"))
    output.answer(table, {"settings": list(rows)})


@app.command(epilog="Example: crypto-trigger demo --stay --port 4333")
def demo(
    context: typer.Context,
    stay: options.Stay = False,
    port: options.Port = None,
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
