"""Build the command line that a hint suggests, with the flags of this run that the command needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crypto_trigger.settings.setting import Layer

if TYPE_CHECKING:
    from crypto_trigger.settings.load import Settings
    from crypto_trigger.settings.setting import Source


def command_line(settings: Settings, command: str, *options: str) -> str:
    """Return `crypto-trigger COMMAND`, the flags that were given and then `options`, quoted for a shell.

    Only flags are repeated: the environment and a `.env` file still apply. Server addresses are shown without their
    credentials.
    """
    from shlex import quote  # only a failure needs it

    flags = []
    for path in settings.env_files:
        flags += ["--env-file", path]
    for source in settings.sources:
        setting = source.setting
        if source.layer == Layer.FLAG and command in (setting.commands or (command,)):
            flags += [setting.flag or "", *(() if setting.is_switch else (_value(settings, source),))]
    return " ".join(["crypto-trigger", command, *map(quote, [*flags, *options])])


def _value(settings: Settings, source: Source) -> str:
    if source.setting.attribute == "servers":
        return ",".join(map(str, settings.servers))
    return source.raw or ""
