"""The options of the commands: those of settings, made from the table, and the few that are not settings."""

# No `from __future__ import annotations` here: Typer would compile every option's annotation from its text, on every
# run.

import inspect
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

if TYPE_CHECKING:
    from crypto_trigger.commands.help import Entry
    from crypto_trigger.settings.setting import Setting

# Names of `setting.Group`, which is not loaded before a command needs it.
_MESSAGE, _OUTPUT = "Message", "Output"
_STREAM, _TRIAL, _SERVER = "Stream", "Trial run", "Server"
EnvFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--env-file",
        metavar="PATH",
        help="File of settings, NAME=value a line. Give it again for more files: a later file beats those before it.  "
        "[default: .env, if there is one]",
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Publish even if the slot has its trigger.", rich_help_panel=_MESSAGE),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check every setting and say what would be published. Connects to nothing.",
        rich_help_panel=_TRIAL,
    ),
]
Rehearse = Annotated[
    bool,
    typer.Option(
        "--rehearse",
        help="Do all that a publish does, on a condition that no stream can fulfil: the exit status is that of a "
        "publish, and nothing is stored.",
        rich_help_panel=_TRIAL,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print no answer: the exit status tells.", rich_help_panel=_OUTPUT),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Tell on stderr what happens, and when (UTC).", rich_help_panel=_OUTPUT),
]
Replicas = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=5,
        metavar="N",
        help="Copies of the stream in a cluster, 1 to 5.  [default: 1 when it is created]",
        rich_help_panel=_STREAM,
    ),
]
MaxBytes = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Most bytes of a new stream, such as 16MiB, for accounts that demand a limit.",
        rich_help_panel=_STREAM,
    ),
]
Update = Annotated[
    bool,
    typer.Option(
        "--update",
        help="Change an existing stream, only in what one trigger per slot needs.",
        rich_help_panel=_STREAM,
    ),
]
SetupDryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be created or changed. Changes nothing.", rich_help_panel=_TRIAL),
]
Stay = Annotated[
    bool,
    typer.Option("--stay", help="Keep the server up and print every trigger, until Ctrl-C.", rich_help_panel=_SERVER),
]
Port = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        metavar="PORT",
        help="Port of the server.  [default: 4222 with --stay, otherwise a free one]",
        rich_help_panel=_SERVER,
    ),
]


class Command(typer.core.TyperCommand):
    """A command whose help lists its options in groups, and in whole sentences at each width of the terminal.

    Typer calls the group of an option its panel. It shows panels only with rich, which costs more than the whole run.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - of a type private to Typer
        """Read the options and tell the call what they are; of a wrong command line, those that can be read."""
        words = [*args]
        try:
            rest = super().parse_args(ctx, args)
        except typer.Exit:  # the help
            raise
        except Exception:
            if ctx.obj:
                self.read(ctx.parent, words)
            raise
        if ctx.obj:
            ctx.obj.read(ctx.params)
        return rest

    def read(self, parent: Any, words: list[str]) -> None:  # noqa: ANN401 - likewise
        """Tell the call those options of a wrong command line that can be read."""
        self.make_context(self.name, words, parent, resilient_parsing=True, ignore_unknown_options=True)

    def get_help(self, ctx: Any) -> str:  # noqa: ANN401 - of a type private to Typer
        """Return the help: a section for each group of options; options without a group come last."""
        return help_of(self, ctx)

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002 - Typer would cut the text there
        """Return the first sentence of the help, for lists of commands."""
        return (self.help or "").partition(". ")[0].removesuffix(".") + "."


def help_of(command: Any, ctx: Any, others: "Sequence[tuple[str, Sequence[Entry]]]" = ()) -> str:  # noqa: ANN401 - likewise
    """Return the help of a command or of the program. `others` are sections after those of the options."""
    from shutil import get_terminal_size

    from crypto_trigger.commands.help import Entry, page
    from crypto_trigger.settings.setting import Group

    sections: dict[str, list[Entry]] = {group: [] for group in Group.ALL}
    rest: list[Entry] = []
    for option in command.get_params(ctx):
        if record := option.get_help_record(ctx):
            text, _, origin = (option.help or "").partition("  ")
            if not origin and option.show_default and option.default not in (None, False):
                origin = f"[default: {option.default}]"
            group = getattr(option, "rich_help_panel", None)
            (sections.setdefault(group, []) if group else rest).append(Entry(record[0], text, origin))
    titled = [*sections.items(), ("Other" if any(sections.values()) else "Options", rest), *others]
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    filled = [(title, entries) for title, entries in titled if entries]
    return page(usage, command.help or "", filled, command.epilog or "", get_terminal_size().columns)


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the flags of the settings as options, if it has a parameter `**flags` for them.

    Flags are passed by attribute, as text, or None where a flag is not given. They are parsed with the other layers.
    """
    signature = inspect.signature(command)
    own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
    if len(own) == len(signature.parameters):
        return command
    from crypto_trigger.settings.table import SETTINGS

    taken = [
        setting
        for setting in SETTINGS
        if setting.flag and command.__name__ in (setting.commands or (command.__name__,))
    ]

    def call(**given: Any) -> None:  # noqa: ANN401 - options of any type
        for setting in taken:
            if setting.is_switch:
                given[setting.attribute] = "true" if given[setting.attribute] else None
        command(**given)

    parameters = [*map(_parameter, taken), *(parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in own)]
    update_wrapper(call, command)
    # What Typer reads the options from (PEP 362).
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return call


def _parameter(setting: "Setting") -> inspect.Parameter:
    from crypto_trigger.settings.table import SETTINGS

    default = setting.default or next((row.variable for row in SETTINGS if row.attribute == setting.default_of), None)
    known = f"env var: {setting.variable}"
    if default and not setting.is_switch:
        known += f"; default: {default}"
    option = typer.Option(
        *filter(None, (setting.flag, setting.short)),
        metavar=setting.metavar,
        help=f"{setting.meaning}  [{known}]",
        rich_help_panel=setting.group,
    )
    kind: Any = bool if setting.is_switch else str | None
    return inspect.Parameter(
        setting.attribute,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if setting.is_switch else None,
        annotation=Annotated[kind, option],
    )
