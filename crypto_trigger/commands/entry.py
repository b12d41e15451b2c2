"""The one way into the program: run a command line and return the exit status, whatever happens."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crypto_trigger.deadline import signals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crypto_trigger.commands.call import Call

# The status of a monitoring plugin for what it does not know. All other statuses have other meanings there.
_UNKNOWN = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (None: the process's) and return the exit status. Prints; raises nothing."""
    words = sys.argv[1:] if argv is None else argv
    try:
        if argv is None:
            signals.resume()
        else:
            signals.install()
        return _run(words, is_process=argv is None)
    except signals.Signalled as signalled:
        status = 128 + signalled.signum
    except Exception as error:  # noqa: BLE001 - a bug in the report of a run
        from crypto_trigger.reporting.terminal import Output

        Output().traceback(error)
        from crypto_trigger.errors import Status

        status = int(Status.BUG)
    return _UNKNOWN if first(words) == "check" else status


def _run(words: Sequence[str], *, is_process: bool) -> int:
    from crypto_trigger.commands.call import Call

    call = Call(words, first(words), is_process=is_process)
    return call.end(lambda: _parse(call))


def _parse(call: Call) -> None:
    """Load the parser, and let it run the command that it finds."""
    from crypto_trigger.commands.program import parse

    parse(call)


def first(words: Sequence[str]) -> str | None:
    """Return the first word of a command line if it is no option: it can only be the command.

    The parser says which command it is. This is for what happens before the parser is loaded, or if it cannot be.
    """
    return words[0] if words and not words[0].startswith("-") else None
