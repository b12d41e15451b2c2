"""Answer a shell that completes a command line, and print the script that makes it ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typer.completion import completion_init  # type: ignore[attr-defined] # imported there from a private module

if TYPE_CHECKING:
    from typer import Typer


def complete(program: Typer) -> int:
    """Print on stdout what `_CRYPTO_TRIGGER_COMPLETE` asks for, and return the exit status: 1 if it is unknown.

    Its value is `source_` (the script) or `complete_` (an answer), followed by `bash`, `zsh` or `fish`.

    Typer answers by itself, but only with its two options for completion, which cost every start. So the shells are
    added here.
    """
    completion_init()
    try:
        program(prog_name="crypto-trigger")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
