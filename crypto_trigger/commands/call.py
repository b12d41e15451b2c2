"""One call of the program: its command line, and the run of the command that the parser finds in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from crypto_trigger.commands.ending import Run
from crypto_trigger.deadline import signals
from crypto_trigger.errors import Interrupted
from crypto_trigger.reporting.terminal import Output
from crypto_trigger.settings import masking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Call:
    """One call of the program. Which command it is, and what its options are, the parser tells.

    `run` is the run of that command. `words` is the command line, and `is_process` tells that it is the process's.
    """

    def __init__(self, words: Sequence[str], command: str | None = None, *, is_process: bool = True) -> None:
        self.words = words
        self.is_process = is_process
        self._started = time.monotonic()
        masking.keep(secret for word in words for secret in masking.secrets_of_word(word))
        # Made before the parser's own output is captured.
        self._output = Output()
        self.run = self._run_of(command)

    def name(self, command: str) -> None:
        """Take the name of the command."""
        if command != self.run.command:
            self.run = self._run_of(command)

    def read(self, options: Mapping[str, object]) -> None:
        """Take the options of the command, or, of a wrong command line, those that can be read."""
        self.run.read(options)

    def end(self, command: Callable[[], None]) -> int:
        """Run the command, report its failure if it fails, and return the exit status. Raises nothing foreseeable."""
        try:
            command()
        except signals.Signalled as signalled:
            return self.run.fail(Interrupted(signalled.signum, "interrupted before anything was sent"))
        except (ImportError, AttributeError) as error:
            return self.run.lack(error)
        except Exception as error:  # noqa: BLE001 - every failure is reported here
            return self.run.fail(error)
        return self.run.status

    def _run_of(self, command: str | None) -> Run:
        """Return the run of a command. A `check` ends in its own way, also if its command line is wrong."""
        if command == "check":
            from crypto_trigger.commands.check import CheckRun

            return CheckRun(command, self._output, self._started, is_process=self.is_process)
        return Run(command, self._output, self._started, is_process=self.is_process)
