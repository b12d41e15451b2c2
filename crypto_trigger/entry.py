"""Run a command line: a plain one of `publish` or `check` without Typer, any other by `cli`.

To load Typer takes a tenth of a run, and these two commands are run by schedulers. A command line is plain if each of
its words is an option of the command, written in full, or the value of one, and none but --env-file is repeated. So the
options are known in two places: a test compares what both make of a command line. Help, errors and every other form are
Typer's alone.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from crypto_trigger import signals

if TYPE_CHECKING:
    from collections.abc import Sequence

# The options that are no settings, and what they set: those that take a value, and those that do not.
_TEXTS = {
    "publish": {"--env-file": "env_files"},
    "check": {
        "--env-file": "env_files",
        "--since": "since",
        "--grace": "grace",
        "--consumer-warn": "consumer_warn",
        "--consumer-critical": "consumer_critical",
        "--format": "output_format",
        "--output-file": "output_file",
        "--on-change": "on_change",
    },
}
_OUTPUT: dict[str, tuple[str, Any]] = {
    "--json": ("as_json", True),
    "--quiet": ("quiet", True),
    "-q": ("quiet", True),
    "--verbose": ("verbose", True),
    "-v": ("verbose", True),
}
_SWITCHES: dict[str, dict[str, tuple[str, Any]]] = {
    "publish": {
        "--force": ("force", True),
        "--dry-run": ("dry_run", True),
        "--rehearse": ("rehearse", True),
        **_OUTPUT,
    },
    "check": _OUTPUT,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit status. Prints; raises nothing."""
    words = sys.argv[1:] if argv is None else argv
    given = plain(words)
    if given is None:
        try:
            from crypto_trigger.cli import main as parse
        except ModuleNotFoundError as missing:
            from crypto_trigger.plugin import CheckRun
            from crypto_trigger.run import Run

            return (CheckRun if "check" in words[:1] else Run)(words).lack(missing)
        return parse(argv)
    signals.install()
    if words[0] == "check":
        from crypto_trigger.checking import check
        from crypto_trigger.plugin import CheckRun

        checking = CheckRun(words, is_process=argv is None)
        return checking.end(lambda: check(checking, **given))
    from crypto_trigger.publishing import publish
    from crypto_trigger.run import Run

    run = Run(words, is_process=argv is None)
    return run.end(lambda: publish(run, **given))


def plain(words: Sequence[str]) -> dict[str, Any] | None:
    """Return the options of a plain command line of `publish` or `check`, by attribute, or None."""
    if not words or words[0] not in _TEXTS:
        return None
    texts, switches = _options(words[0])
    given: dict[str, Any] = {}
    rest = iter(words[1:])
    for word in rest:
        if word in switches:
            attribute, value = switches[word]
        elif word in texts:
            attribute, value = texts[word], next(rest, "-")
        else:
            return None
        # Typer knows what it means if another option is repeated, or if a value is missing or begins with "-".
        if str(value).startswith("-") or (attribute in given and attribute != "env_files"):
            return None
        given[attribute] = [*given.get(attribute, ()), value] if attribute == "env_files" else value
    return given


def _options(command: str) -> tuple[dict[str, str], dict[str, tuple[str, Any]]]:
    """Return what each option of a command sets: those that take a value, and those that do not."""
    from crypto_trigger.table import SETTINGS

    texts, switches = dict(_TEXTS[command]), dict(_SWITCHES[command])
    for setting in SETTINGS:
        if setting.flag and command in (setting.commands or (command,)):
            for flag in filter(None, (setting.flag, setting.short)):
                if setting.is_switch:
                    switches[flag] = setting.attribute, "true"
                else:
                    texts[flag] = setting.attribute
    return texts, switches
