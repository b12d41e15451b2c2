"""Print the answer to stdout and everything else to stderr, with secrets masked. All output goes through here.

stdout gets the answer: one line, or one JSON object, or nothing. stderr gets everything else.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from enum import StrEnum
from io import TextIOBase
from typing import TYPE_CHECKING, Any

from crypto_trigger.masking import MASK, escaped
from crypto_trigger.render import report_data, report_line
from crypto_trigger.streams import LEAST, Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crypto_trigger.picture import Line
    from crypto_trigger.report import Report
    from crypto_trigger.retry import Wait

# The styles of a picture, in rich's words. The colors are the terminal's own, which suit its background.
_STYLES = {
    "plain": "",
    "title": "bold",
    "faint": "dim",
    "triggered": "green",
    "late": "bold yellow",
    "missed": "bold red",
    "overdue": "bold magenta",
    "pending": "cyan",
}
# The colors of an SVG picture: background, text, and the eight of a terminal. Each is readable on the background.
_SVG_COLORS: tuple[Any, ...] = (
    (13, 17, 23),
    (230, 237, 243),
    [
        (72, 79, 88),
        (255, 123, 114),
        (63, 185, 80),
        (227, 179, 65),
        (88, 166, 255),
        (210, 168, 255),
        (86, 212, 221),
        (177, 186, 196),
    ],
)
_SHORTEST_SECRET = 6
# How long optional output waits for a reader, in seconds. The event loop is blocked for that time.
_OPTIONAL_SECONDS = 0.25
# How long the answer waits for a reader while the deadline is not known, in seconds.
_SECONDS_WITHOUT_DEADLINE = 1.0


class Output:
    """Prints the output of a command: the answer to stdout, the rest to stderr, in the form that was asked for.

    A closed or full stdout does not change the exit status, which is about the trigger. Slow readers do not block the
    run: the answer and the reason for a failure wait until `deadline` (a time of `time.monotonic()`, or None if it is
    not known). Everything else is optional, and is dropped if it is not read almost at once.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.deadline: float | None = None
        self._stdout = Writer(sys.stdout)
        self._stderr = Writer(sys.stderr)
        self._secrets: tuple[str, ...] = ()
        self._spinner: Any = None

    @property
    def seconds_left(self) -> float:
        """How long the answer may wait for a reader from now on, in seconds."""
        return _SECONDS_WITHOUT_DEADLINE if self.deadline is None else max(LEAST, self.deadline - time.monotonic())

    def keep_secret(self, secrets: Sequence[str]) -> None:
        """Print `***` in place of each of these texts from now on."""
        # The longest first, because one may be part of another. Very short ones are left out, because masking them
        # would hide ordinary words; code that shows the value of a setting masks those itself.
        self._secrets = tuple(sorted((s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True))

    def answer(self, text: str, data: Mapping[str, Any] | Sequence[Any]) -> None:
        """Print the answer: `text`, or `data` as one JSON object."""
        if self.quiet:
            return
        self._write_required(self._stdout, self._json(data, self._stdout) if self.as_json else self._clean_lines(text))

    @property
    def canvas(self) -> int | None:
        """The number of columns for a picture on stdout, or None where a picture is not to be shown."""
        if self.as_json or self.quiet or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
            return None
        return self._stdout.width

    def takes(self, text: str) -> bool:
        """Tell whether the terminal's encoding has the characters of `text`."""
        return self._stdout.takes(text)

    def picture(self, lines: Iterable[Line], width: int) -> None:
        """Print the answer as a picture, in color unless NO_COLOR is set."""
        from io import StringIO

        from rich.console import Console

        file = StringIO()
        console = Console(file=file, width=width, force_terminal=True, legacy_windows=False)
        self._draw(console, lines)
        self._write_required(self._stdout, file.getvalue().rstrip("\n"))

    def svg(self, lines: Iterable[Line], width: int, title: str) -> str:
        """Return a picture as an SVG document."""
        from io import StringIO

        from rich.console import Console
        from rich.terminal_theme import TerminalTheme

        console = Console(
            file=StringIO(), width=width, record=True, force_terminal=True, color_system="truecolor", no_color=False
        )
        self._draw(console, lines)
        return console.export_svg(title=self._clean(title), theme=TerminalTheme(*_SVG_COLORS))

    def _draw(self, console: Any, lines: Iterable[Line]) -> None:  # noqa: ANN401 - rich is loaded only for a picture
        from rich.text import Text

        for line in lines:
            text = Text(no_wrap=True, overflow="crop")
            for span in line:
                text.append(self._clean(span.text), _STYLES[span.style])
            console.print(text, highlight=False)

    def text(self, text: str, data: Mapping[str, Any]) -> str:
        """Return the answer as `answer` would print it, for a file."""
        return (self._json(data) if self.as_json else self._clean_lines(text)) + "\n"

    def report(self, report: Report) -> None:
        """Print the result of a run: the reason for a failure on stderr, the answer on stdout."""
        for warning in report.warnings or ():
            self.warn(warning)
        if report.error:
            self.failure(report_line(report))
        if self.as_json or not report.error:
            self.answer(report_line(report), report_data(report))

    def show(self, text: str) -> None:
        """Print one of many lines on stdout; it is dropped if nobody reads."""
        self._write_optional(self._stdout, self._clean_lines(text))

    def failure(self, message: str) -> None:
        """Print why the run failed, on stderr; several lines only for several problems."""
        self._write_required(self._stderr, self._clean_lines(message, "crypto-trigger: "))

    def warn(self, message: str) -> None:
        """Print a warning, on stderr."""
        self._write_optional(self._stderr, self._clean_lines(f"crypto-trigger: warning: {message}"))

    def detail(self, message: str) -> None:
        """Print a detail on stderr, with `--verbose` only."""
        if self.verbose:
            self._write_optional(self._stderr, self._clean_lines(f"crypto-trigger: {message}"))

    def waiting(self, wait: Wait) -> None:
        """Show why a run waits: as a line with `--verbose`, as a spinner on a terminal, else not at all."""
        text = (
            f"attempt {wait.attempt} failed: {wait.cause.message}; "
            f"next in {wait.wait:.1f}s, giving up in {wait.left:.0f}s"
        )
        if self.verbose:
            self.detail(text)
        elif self._stderr.is_terminal and not self.quiet:
            self._spin(self._clean(text))

    def traceback(self, error: BaseException) -> None:
        """Print the traceback of a bug, on stderr."""
        import traceback

        self._write_required(self._stderr, self._mask("".join(traceback.format_exception(error)).rstrip("\n")))

    def pass_on(self, stdout: str, stderr: str) -> None:
        """Print what the parser of the command line has written: its help, or its error message."""
        for writer, text in ((self._stdout, stdout), (self._stderr, stderr)):
            if text:
                self._write_required(writer, self._clean_lines(text.removesuffix("\n")))

    def _stop_spinner(self) -> None:
        """Remove the spinner from the terminal."""
        spinner, self._spinner = self._spinner, None
        if spinner is not None:
            spinner.stop()

    def json(self, report: Report) -> str:
        """Return the report as one line of JSON, without anything secret."""
        return self._json(report_data(report))

    def settings(self, rows: Sequence[Mapping[str, str]]) -> str:
        """Format rows of `name`, `value`, `origin` and `meaning`: wrapped on a terminal, else two lines per row."""
        width = self._stdout.width
        lines: list[str] = []
        for row in rows:
            value = (
                f"{row['name']} = {row['value']}  ({row['origin']})" if row["value"] else f"{row['name']} is not set"
            )
            lines += _wrapped(self._clean(value), width, indent=8)
            lines += _wrapped("    " + self._clean(row["meaning"]), width, indent=4)
        return "\n".join(lines)

    def _spin(self, text: str) -> None:
        from rich.console import Console
        from rich.status import Status as Spinner
        from rich.text import Text

        width = self._stderr.width or 80
        if self._spinner is None:
            console = Console(file=_Frames(self._stderr), width=width)  # type: ignore[arg-type]
            self._spinner = Spinner("", console=console)
            self._spinner.start()
        self._spinner.update(Text(_cut(text, width - 3), no_wrap=True))

    def _write_required(self, writer: Writer, text: str) -> None:
        """Write the answer or the reason for a failure. A stream that cannot take it in time is abandoned."""
        self._stop_spinner()
        try:
            writer.write(text + "\n", self.seconds_left)
        except (OSError, ValueError) as error:
            writer.abandon()
            if writer is self._stdout and not isinstance(error, BrokenPipeError):
                self.warn(f"the answer could not be written to stdout: {error}")

    def _write_optional(self, writer: Writer, text: str) -> None:
        """Write optional output; it is dropped if nobody reads it."""
        self._stop_spinner()
        try:
            writer.write(text + "\n", 0.0 if writer.is_busy else _OPTIONAL_SECONDS)
        except TimeoutError:
            pass
        except (OSError, ValueError):
            writer.abandon()

    def _clean_lines(self, text: str, before: str = "") -> str:
        return "\n".join(before + self._clean(part) for part in text.split("\n"))

    def _clean(self, text: str) -> str:
        """Mask secrets and escape control characters."""
        return escaped(self._mask(text))

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def _json(self, data: Mapping[str, Any] | Sequence[Any], writer: Writer | None = None) -> str:
        masked = self._masked(data)
        text = json.dumps(masked, ensure_ascii=False)
        # Escape everything that is not ASCII if there are control characters, characters that the stream cannot encode,
        # or lone surrogates (bytes of the environment that are not UTF-8).
        if not text.isprintable() or (writer and not writer.takes(text)):
            return json.dumps(masked)
        return text

    def _masked(self, data: Any) -> Any:  # noqa: ANN401 - JSON
        """Mask values. Keys and enum members are our own words: they stay, even if a password is the same word."""
        if isinstance(data, StrEnum):
            return data
        if isinstance(data, str):
            return self._mask(data)
        if isinstance(data, dict):
            return {key: self._masked(value) for key, value in data.items()}
        if isinstance(data, (list, tuple)):
            return [self._masked(value) for value in data]
        return data


class _Frames(TextIOBase):
    """The file that rich writes the spinner to. A frame that the terminal does not take at once is dropped."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._frame = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._writer.encoding

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._frame += text
        return len(text)

    def flush(self) -> None:
        frame, self._frame = self._frame, ""
        if frame:
            with suppress(OSError, ValueError):
                self._writer.write(frame, 0.0 if self._writer.is_busy else _OPTIONAL_SECONDS)


def _wrapped(text: str, width: int | None, indent: int) -> list[str]:
    """Return lines of at most `width` columns, broken at blanks only, so that a long value can be copied."""
    if width is None:
        return [text]
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent=indent * " ", break_long_words=False, break_on_hyphens=False)


def _cut(text: str, width: int) -> str:
    """Return a line cut to `width` columns, between words if possible."""
    if len(text) <= width:
        return text
    return f"{text[: max(0, width - 3)].rpartition(' ')[0] or text[: max(0, width - 4)]} ..."
