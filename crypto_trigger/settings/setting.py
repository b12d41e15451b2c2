"""One setting: its row in the table, and the source of its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from crypto_trigger.settings import values

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Layer:
    """Where a value can come from; the layer with the lower number takes precedence.

    Plain numbers, and `Group` plain texts: every run would spend more on defining an enumeration than on using it.
    """

    FLAG = 0
    ENVIRONMENT = 1
    ENV_FILE = 2
    CONTEXT = 3
    DEFAULT = 4


class Group:
    """The groups of settings: headings in the help of a command."""

    CONNECTION = "Connection"
    MESSAGE = "Message"
    TIME = "Time"
    OUTPUT = "Output"
    ALL = (CONNECTION, MESSAGE, TIME, OUTPUT)


class Setting:
    """One row of the table, as a class attribute of `Settings`, whose name is its `attribute`.

    `parse` takes the text, or the content of the file that the text names if `reads` is true. `default_of` names the
    setting whose value is used if this one is not set. A setting with a `flag` is an option of each command that loads
    settings, or only of those in `commands`; `short` is the flag's short form. A `secret` text is never shown. A
    `verbatim` text may be in quotes, as part of it. A wrong text of a setting that is `ignorable` is only warned about.
    """

    attribute = ""

    def __init__(
        self,
        group: str,
        variable: str,
        parse: Callable[[str], object],
        default: str | None,
        meaning: str,
        flag: str | None = None,
        *,
        short: str | None = None,
        metavar: str | None = None,
        commands: tuple[str, ...] = (),
        context_key: str | None = None,
        secret: bool = False,
        reads: bool = False,
        default_of: str | None = None,
        verbatim: bool = False,
        ignorable: bool = False,
    ) -> None:
        self.group: Final = group
        self.variable: Final = variable
        self.parse: Final = parse
        self.default: Final = default
        self.meaning: Final = meaning
        self.flag: Final = flag
        self.short: Final = short
        self.metavar: Final = metavar
        self.commands: Final = commands
        self.context_key: Final = context_key
        self.secret: Final = secret
        self.reads: Final = reads
        self.default_of: Final = default_of
        self.verbatim: Final = verbatim
        self.ignorable: Final = ignorable

    def __set_name__(self, _: type, name: str) -> None:
        self.attribute = name

    @property
    def is_switch(self) -> bool:
        """Whether the setting is on or off, so that its flag takes no value."""
        return self.parse is values.boolean


@overload
def row(
    group: str,
    variable: str,
    parse: Callable[[str], T],
    default: str,
    meaning: str,
    flag: str | None = None,
    **more: Any,  # noqa: ANN401 - the other columns
) -> T: ...
@overload
def row(
    group: str,
    variable: str,
    parse: Callable[[str], T],
    default: None,
    meaning: str,
    flag: str | None = None,
    *,
    default_of: str,
    **more: Any,  # noqa: ANN401 - the other columns
) -> T: ...
@overload
def row(
    group: str,
    variable: str,
    parse: Callable[[str], T],
    default: None,
    meaning: str,
    flag: str | None = None,
    **more: Any,  # noqa: ANN401 - the other columns
) -> T | None: ...
def row(*columns: Any, **more: Any) -> Any:
    """Return a row, typed as its parser's value, so that the type checker compares the field's annotation with it."""
    return Setting(*columns, **more)


class Source:
    """Where the value of a setting was found: its text and its place. `raw` is None where nothing sets it.

    `layer` is one of `Layer`. A text is `secret` if its setting is, or if it is one in this run. It is `inline` if it
    is the content of the file that the setting names.
    """

    def __init__(
        self,
        setting: Setting,
        raw: str | None,
        layer: int,
        origin: str,
        *,
        secret: bool = False,
        inline: bool = False,
    ) -> None:
        self.setting: Final = setting
        self.raw: Final = raw
        self.layer: Final = layer
        self.origin: Final = origin
        self.secret: Final = secret or setting.secret
        self.inline: Final = inline

    def __repr__(self) -> str:
        return f"{self.setting.variable}='{self.shown}' from {self.origin}"

    @property
    def shown(self) -> str:
        """The text as it may be shown: secrets and the credentials in URLs masked, control characters escaped."""
        if not self.raw:
            return ""
        from crypto_trigger.settings import masking

        if self.secret:
            return masking.MASK
        if self.setting.parse is values.servers:
            return masking.shown(masking.mask_url(self.raw))
        return masking.shown_path(self.raw) if self.setting.metavar == "PATH" else masking.shown(self.raw)

    @property
    def place(self) -> str:
        """The variable and the layer it was found in: `NATS_TOKEN, the environment`."""
        return f"{self.setting.variable}, {self.origin}"

    def problem(self, what: str) -> str:
        """Return the line that names the variable, the value, where it came from, and what is wrong with it."""
        return f"{self.setting.variable} '{self.shown}' (from {self.origin}) {what}"
