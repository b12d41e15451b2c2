"""The command line that a hint tells to run: it repeats the flags of this run that matter to the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_trigger.setting import Layer

if TYPE_CHECKING:
    from crypto_trigger.setting import Source
    from crypto_trigger.settings import Settings

# The settings whose flags each command that connects has.
_SHARED = ("servers", "subject", "stream", "delivery", "every", "timeout", "give_up_after")


def command_line(settings: Settings, command: str, *options: str) -> str:
    """Return `crypto-trigger COMMAND`, the flags that were given and then `options`, quoted for a shell.

    Only what was given as a flag is repeated: the environment and a `.env` file are still there. Addresses come
    without the credentials they had.
    """
    from shlex import quote  # on the way of a failure only

    flags = []
    if settings.env_file is not None:
        flags += ["--env-file", settings.env_file]
    for source in settings.sources:
        if source.layer is Layer.FLAG and source.setting.attribute in _SHARED:
            flags += [source.setting.flag or "", _value(settings, source)]
    return " ".join(["crypto-trigger", command, *map(quote, [*flags, *options])])


def _value(settings: Settings, source: Source) -> str:
    if source.setting.attribute == "servers":
        return ",".join(map(str, settings.servers))
    return source.raw or ""
