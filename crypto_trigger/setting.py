"""One setting: its row in the table, and the source of its value."""

# No `from __future__ import annotations` here: a named tuple would compile each field's annotation from its text, on
# every run.

from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, TypeVar, overload

from crypto_trigger import values

T = TypeVar("T")


class Layer(IntEnum):
    """Where a value can come from; the layer with the lower number takes precedence."""

    FLAG = 0
    ENVIRONMENT = 1
    ENV_FILE = 2
    CONTEXT = 3
    DEFAULT = 4


class Group(StrEnum):
    """The groups of settings: headings in the help of a command."""

    CONNECTION = "Connection"
    MESSAGE = "Message"
    TIME = "Time"
    OUTPUT = "Output"


class Setting(NamedTuple):
    """One row of the table.

    `parse` takes the text, or the content of the file that the text names if `reads` is true. `default_of` names the
    setting whose value is used if this one is not set. A setting with a `flag` is an option of each command that loads
    settings, or only of those in `commands`; `short` is the flag's short form. A `secret` text is never shown.
    """

    attribute: str
    group: Group
    variable: str
    parse: Callable[[str], object]
    default: str | None
    meaning: str
    flag: str | None = None
    short: str | None = None
    metavar: str | None = None
    commands: tuple[str, ...] = ()
    context_key: str | None = None
    secret: bool = False
    reads: bool = False
    default_of: str | None = None

    @property
    def is_switch(self) -> bool:
        """Whether the setting is on or off, so that its flag takes no value."""
        return self.parse is values.boolean


@overload
def row(
    group: Group,
    variable: str,
    parse: Callable[[str], T],
    default: str,
    meaning: str,
    flag: str | None = None,
    **more: Any,  # noqa: ANN401 - the other columns
) -> T: ...
@overload
def row(
    group: Group,
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
    group: Group,
    variable: str,
    parse: Callable[[str], T],
    default: None,
    meaning: str,
    flag: str | None = None,
    **more: Any,  # noqa: ANN401 - the other columns
) -> T | None: ...
def row(*columns: Any, **more: Any) -> Any:
    """Return a row, typed as its parser's value, so that the type checker compares the field's annotation with it."""
    return Setting("", *columns, **more)


class Source(NamedTuple):
    """Where the value of a setting was found: its text and its place. `raw` is None where nothing sets it."""

    setting: Setting
    raw: str | None
    layer: Layer
    origin: str

    def __repr__(self) -> str:
        return f"{self.setting.variable}='{self.shown}' from {self.origin}"

    @property
    def shown(self) -> str:
        """The text as it may be shown: secrets and the credentials in URLs masked, control characters escaped."""
        if not self.raw:
            return ""
        from crypto_trigger import masking

        if self.setting.secret:
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
