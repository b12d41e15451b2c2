"""The program: parse the command line, run one command, return its exit status. And the commands, but for `watch`'s."""

# No `from __future__ import annotations` here: Typer would compile every option's annotation from its text, on every
# run. So annotations with classes that not every command loads are quoted one by one.

import os
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from io import StringIO
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main

from crypto_trigger import __version__
from crypto_trigger.commands import options
from crypto_trigger.commands.ending import limits_of
from crypto_trigger.errors import Status, Usage

if TYPE_CHECKING:
    from crypto_trigger.commands.call import Call
    from crypto_trigger.commands.ending import Run


app = typer.Typer()


class Commands(typer.core.TyperGroup):
    """The commands of `app`, each built only when it is needed, and once.

    Typer's own group builds all commands on every run, with a dozen options each, which takes longer than a publish.
    """

    def list_commands(self, _: Any) -> list[str]:  # noqa: ANN401 - Typer's context is of a private type
        """Return the names, in the order of the help."""
        return [_name(command) for command in _all_commands()]

    def get_command(self, _: Any, cmd_name: str) -> Any:  # noqa: ANN401 - likewise
        """Return the command of that name, or None."""
        asked = [command for command in app.registered_commands if _name(command) == cmd_name]
        if not asked:
            asked = [command for command in _all_commands() if _name(command) == cmd_name]
        # For an unknown name Typer suggests a similar one, so it needs all commands.
        for command in asked or _all_commands():
            self.commands[_name(command)] = _build(command)
        return self.commands.get(cmd_name)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - likewise
        """Read the options before the command. If one is wrong, find out which command it stands before."""
        words = [*args]
        try:
            return super().parse_args(ctx, args)
        except typer.Exit:
            raise
        except Exception:
            if ctx.obj and not ctx.resilient_parsing:
                self._look_behind(ctx, words)
            raise

    def _look_behind(self, ctx: Any, words: list[str]) -> None:  # noqa: ANN401 - likewise
        """Tell the call the command behind wrong options, if there is one, and what can be read of its options."""
        lenient = self.context_class(
            self, info_name=ctx.info_name, obj=ctx.obj, resilient_parsing=True, ignore_unknown_options=True
        )
        _, rest, _ = self.make_parser(lenient).parse_args(words)
        found = next((number for number, word in enumerate(rest) if not word.startswith("-")), None)
        if found is not None and self.get_command(lenient, rest[found]):
            self.resolve_command(lenient, rest[found:])[1].read(lenient, rest[found + 1 :])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - likewise
        """Return the name, the command and its words, and tell the call the name."""
        name, command, words = super().resolve_command(ctx, args)
        if ctx.obj and name:
            ctx.obj.name(name)
        return name, command, words

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401 - likewise
        """Return the help: the options of the program, and each command with the first sentence of its help."""
        from crypto_trigger.commands.help import Entry

        names = self.list_commands(ctx)
        entries = [Entry(name, self.get_command(ctx, name).get_short_help_str()) for name in names]
        return options.help_of(self, ctx, [("Commands", entries)])


def _all_commands() -> "list[typer.models.CommandInfo]":
    """Return the commands of this module and of `watch`, which is loaded, in the order of the help."""
    from crypto_trigger.commands import watch

    publish, setup, *others = app.registered_commands
    return [publish, setup, *watch.app.registered_commands, *others]


@cache
def _build(command: typer.models.CommandInfo) -> Any:  # noqa: ANN401 - likewise
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    assert command.callback is not None  # noqa: S101 - `app.command` gave it one
    completed = options.with_settings(command.callback)
    alone.command(_name(command), cls=options.Command, epilog=command.epilog)(completed)
    return typer.main.get_command(alone)


# Without rich: its help and tracebacks cost more than the whole run, and its tracebacks show local variables.
program = typer.Typer(
    cls=Commands,
    help="Publish one trigger to NATS per time slot, and exit with a status that means something.",
    epilog=(
        "The exit status tells whether the trigger is in the stream. 0: it is, or a later one is. 75: perhaps. 2, 65, "
        "69, 76, 77, 78: it is not. 70: a bug. The statuses of check are 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.\n\n"
        "Example: crypto-trigger publish --server nats://localhost:4222"
    ),
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    subcommand_metavar="COMMAND [OPTIONS]",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def parse(call: "Call") -> None:
    """Run the command that the command line asks for. Raises what the command does."""
    if call.is_process and "_CRYPTO_TRIGGER_COMPLETE" in os.environ:
        from crypto_trigger.commands.completion import complete

        call.run.status = complete(program)
        return
    stdout, stderr = StringIO(), StringIO()
    try:
        # The parser would block for ever if nobody reads its output. So that is captured, then printed like the rest.
        with redirect_stdout(stdout), redirect_stderr(stderr):
            program(call.words, prog_name="crypto-trigger", obj=call)
    except SystemExit as end:
        run = call.run
        run.output.pass_on(stdout.getvalue(), "")
        if problem := _problem(end):
            run.status = run.refuse(Usage(problem), stderr.getvalue())
            return
        run.output.pass_on("", stderr.getvalue())
        run.status = (end.code or run.status) if isinstance(end.code, int) else int(Status.BUG)


def _problem(end: SystemExit) -> str:
    """Return what the parser found wrong, or an empty text. It raises SystemExit while it handles its own error."""
    format_message = getattr(end.__context__, "format_message", None)
    said = str(format_message()) if format_message else ""
    # Where the command is missing, the message is the help.
    return "the command is missing" if said.startswith("Usage: ") else said


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
    env_files: options.EnvFiles = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
    rehearse: options.Rehearse = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Deliver this slot's trigger. With delivery jetstream it is stored once, however often this runs."""
    from crypto_trigger.commands.publish import publish as run_publish

    run_publish(
        context.obj.run,
        env_files=env_files,
        force=force,
        dry_run=dry_run,
        rehearse=rehearse,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        **flags,
    )


@app.command(epilog="Example: crypto-trigger setup --server nats://localhost:4222 --replicas 3")
def setup(
    context: typer.Context,
    env_files: options.EnvFiles = None,
    replicas: options.Replicas = None,
    max_bytes: options.MaxBytes = None,
    update: options.Update = False,
    dry_run: options.SetupDryRun = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Create the stream, or say how the existing one differs."""
    run: Run = context.obj.run
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    settings = run.load(env_files, **flags)
    from crypto_trigger.commands.setup import setup_data, setup_line
    from crypto_trigger.deadline.retry import GaveUp, Retry, complete
    from crypto_trigger.delivery.setup import StreamSetup

    most = None if max_bytes is None else _size("--max-bytes", max_bytes)
    attempt = StreamSetup(settings, replicas, most, update=update, dry_run=dry_run)
    limits = limits_of(settings, run.reading)
    try:
        done = complete(Retry(limits, output.waiting).run(attempt))
    except GaveUp as end:
        raise attempt.error(end) from end.last
    output.detail(f"{done.server} answered")
    if done.status is Status.OK:
        output.answer(setup_line(done), setup_data(done))
        return
    output.failure(f"{setup_line(done)}; {done.hint}", setup_data(done))
    if as_json:
        output.answer("", setup_data(done))
    raise typer.Exit(done.status)


@app.command(epilog="Example: crypto-trigger config --env-file /etc/crypto-trigger.env")
def config(
    context: typer.Context,
    env_files: options.EnvFiles = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    **flags: str | None,
) -> None:
    """Show every setting, its value and where it came from."""
    run: Run = context.obj.run
    output = run.begin(as_json=as_json, quiet=quiet, verbose=verbose)
    settings = run.load(env_files, **flags)
    from crypto_trigger.settings.load import explain

    rows = explain(settings)
    output.answer(output.settings(rows), {"settings": list(rows)})


@app.command(epilog="Example: crypto-trigger demo --stay --port 4333")
def demo(
    context: typer.Context,
    stay: options.Stay = False,
    port: options.Port = None,
) -> None:
    """See it all work against a throw-away server."""
    run: Run = context.obj.run
    output = run.begin()
    from crypto_trigger.commands import demo as demonstration

    if stay:
        demonstration.stay(output, port or 4222)
    else:
        demonstration.run(output, port or -1)


def _size(option: str, raw: str) -> int:
    """Return the bytes that an option gives. Raises Usage."""
    from crypto_trigger.monitoring.window import wrong
    from crypto_trigger.settings.masking import shown
    from crypto_trigger.settings.values import size

    try:
        return size(raw)
    except ValueError as error:
        raise wrong(option, f"'{shown(raw)}' {error}") from None


def _name(command: typer.models.CommandInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", ""))
