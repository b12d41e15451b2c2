"""Print the answer to stdout and everything else to stderr, with secrets masked. All output goes through here.

stdout gets the answer: one line, or one JSON object, or nothing. stderr gets everything else.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from contextlib import suppress
from enum import StrEnum
from io import TextIOBase
from typing import TYPE_CHECKING, Any, assert_never

from crypto_trigger.deadline.files import reason
from crypto_trigger.deadline.streams import LEAST, Writer
from crypto_trigger.reporting.words import report_data, report_line
from crypto_trigger.settings.masking import escaped, masked
from crypto_trigger.slots.times import now, rfc3339, rfc3339_milliseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crypto_trigger.deadline.retry import Wait
    from crypto_trigger.reporting.report import Report
    from crypto_trigger.reporting.spans import Line
    from crypto_trigger.settings.values import LogFormat

# The styles of a picture, in rich's words. The colors are the terminal's own, which suit its background.
_STYLES = {
    "plain": "",
    "title": "bold",
    "faint": "dim",
    "triggered": "green",
    # Not bold, which some terminals show as bright yellow: that cannot be read on white.
    "late": "yellow",
    "missed": "bold red",
    "overdue": "bold magenta",
    "pending": "cyan",
    "unknown": "magenta",
}
# The colors of an SVG picture: background, text, and the eight of a terminal. Each is readable on the background.
_SVG_COLORS = (
    *(0x0D1117, 0xE6EDF3),
    *(0x484F58, 0xFF7B72, 0x3FB950, 0xE3B341, 0x58A6FF, 0xD2A8FF, 0x56D4DD, 0xB1BAC4),
)
# How long optional output waits for a reader, in seconds. The event loop is blocked for that time.
_OPTIONAL_SECONDS = 0.25
# How long one of many lines waits for a reader before the event loop goes on, in seconds.
_LINE_SECONDS = 0.05
# How long the answer waits for a reader while the deadline is not known, in seconds.
_SECONDS_WITHOUT_DEADLINE = 1.0


class Output:
    """Prints the output of a command: the answer to stdout, the rest to stderr, in the form that was asked for.

    `log_format` is the form of stderr: with `json` each line there is an object with `time`, `level`, `event` and
    `message`.

    A closed or full stdout does not change the exit status, which is about the trigger. Slow readers do not block the
    run: the answer and the reason for a failure wait until `deadline` (a time of `time.monotonic()`, or None if it is
    not known). Everything else is optional, and is dropped if it is not read almost at once.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        # The answer is many lines: a failure is told on stderr alone.
        self.lines = False
        self.deadline: float | None = None
        self.log_format: LogFormat = "text"
        self._logged = False
        self._traceback: str | None = None
        self._stdout = Writer(sys.stdout)
        self._stderr = Writer(sys.stderr)
        self._spinner: Any = None
        # What is printed later or never; None if everything is printed at once.
        self._held: list[tuple[Writer, str]] | None = None

    @property
    def seconds_left(self) -> float:
        """How long the answer may wait for a reader from now on, in seconds."""
        return _SECONDS_WITHOUT_DEADLINE if self.deadline is None else max(LEAST, self.deadline - time.monotonic())

    def hold(self) -> None:
        """Keep back what is printed from now on, until `release` or `drop`."""
        if self._held is None:
            self._held = []

    def release(self) -> bool:
        """Print what was kept back. Return whether all of it could be written."""
        held, self._held = self._held or [], None
        written = [self._write_required(writer, text) for writer, text in held]
        return all(written)

    def drop(self) -> None:
        """Forget what was kept back."""
        self._stop_spinner()
        self._held = None

    def answer(self, text: str, data: Mapping[str, Any], still: str = "") -> bool:
        """Print the answer: `text`, or `data` as one JSON object. Return whether it could be written.

        `still` is said if it could not: what is true all the same. An answer with an `outcome` says that one.
        """
        if self.quiet:
            return True
        said = self._json(data, self._stdout) if self.as_json else self._clean_lines(text)
        if "outcome" in data:
            still = f"the outcome is still {data['outcome']} (status {data['status']})"
        return self._write_required(self._stdout, said, still)

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
        background, text, *eight = ((c >> 16, c >> 8 & 255, c & 255) for c in _SVG_COLORS)
        drawn = console.export_svg(title=self._clean(title), theme=TerminalTheme(background, text, eight))
        # rich names a font of another host, which a page with the picture would ask for.
        return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)

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
        if report.error and self.log_format == "text":
            self.failure(report_line(report))
        if (self.as_json and not self.lines) or not report.error:
            self.answer(report_line(report), report_data(report))

    def end(self, report: Report) -> None:
        """Log the end of a run as the last object on stderr, unless it is a success and nothing else was logged.

        The text format has no such line: there the reason for a failure is said at once.
        """
        if self.log_format == "json" and (report.error or self.verbose or self._logged):
            self.failure(report_line(report), report_data(report))

    def line(self, text: str, data: Mapping[str, Any]) -> None:
        """Print one line of an answer of many lines: `text`, or `data` as one JSON object.

        It may still be waiting for its reader when this returns: see `is_unread`. A stdout that cannot be written to is
        abandoned.
        """
        if self.quiet:
            return
        self._stop_spinner()
        line = self._json(data, self._stdout) if self.as_json else self._clean(text)
        try:
            self._stdout.write(line + "\n", _LINE_SECONDS)
        except TimeoutError:
            pass
        except (OSError, ValueError) as error:
            self._abandon(self._stdout, error)

    @property
    def is_unread(self) -> bool:
        """Whether the last line still waits for its reader."""
        return self._stdout.is_busy

    @property
    def has_no_reader(self) -> bool:
        """Whether the reader of stdout is gone, so that the next line would fail."""
        return not self.quiet and self._stdout.is_closed

    def note(self, message: str) -> None:
        """Print on stderr what somebody who watches wants to know: on a terminal, or with `--verbose`."""
        if self.verbose or (self._stderr.is_terminal and not self.quiet and self.log_format == "text"):
            self._write_optional(self._stderr, self._log("info", "detail", message))

    def failure(self, message: str, data: Mapping[str, Any] | None = None) -> None:
        """Print on stderr why the run failed; several lines only for several problems.

        `data` is the result as a JSON object, with its `outcome`, for the JSON format.
        """
        data = dict(data or {})
        level = "info" if data.get("status") == 0 else "error"
        event = str(data.get("outcome", "failed"))
        if self._traceback:
            data["traceback"] = self._traceback
        self._write_required(self._stderr, self._log(level, event, message, data=data))

    def warn(self, message: str) -> None:
        """Print a warning, on stderr."""
        self._write_optional(self._stderr, self._log("warning", "warning", message, "warning: "))

    def detail(self, message: str) -> None:
        """Print a detail on stderr, with `--verbose` only."""
        if self.verbose:
            self._write_optional(self._stderr, self._log("info", "detail", message))

    def waiting(self, wait: Wait) -> None:
        """Show why a run waits: as a line with `--verbose`, as a spinner on a terminal, else not at all."""
        text = (
            f"attempt {wait.attempt} failed: {wait.cause.message}; "
            f"next in {wait.wait:.1f}s, giving up in {wait.left:.0f}s"
        )
        if self.verbose:
            self._write_optional(self._stderr, self._log("warning", "attempt_failed", text))
        elif self._stderr.is_terminal and not self.quiet and self.log_format == "text":
            self._spin(self._clean(text))

    def traceback(self, error: BaseException) -> None:
        """Print the traceback of a bug on stderr; in the JSON format it is a key of the last object."""
        import traceback

        text = "".join(traceback.format_exception(error)).rstrip("\n")
        if self.log_format == "json":
            self._traceback = text
        else:
            self._write_required(self._stderr, masked(text))

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

    def _write_required(self, writer: Writer, text: str, still: str = "") -> bool:
        """Write the answer or the reason for a failure. A stream that cannot take it in time is abandoned.

        `still` says what is true although the answer cannot be written. Return whether it could be written, or is kept
        back.
        """
        self._stop_spinner()
        if self._held is not None:
            self._held.append((writer, text))
            return True
        try:
            writer.write(text + "\n", self.seconds_left)
        except (OSError, ValueError) as error:
            self._abandon(writer, error, still)
            return False
        return True

    def _abandon(self, writer: Writer, error: Exception, still: str = "") -> None:
        writer.abandon()
        if writer is self._stdout and not isinstance(error, BrokenPipeError):
            problem = f"the answer could not be written to stdout: {reason(error)}"
            self.warn(f"{problem}; {still}" if still else problem)

    def _write_optional(self, writer: Writer, text: str) -> None:
        """Write optional output; it is dropped if nobody reads it."""
        self._stop_spinner()
        if self._held is not None:
            self._held.append((writer, text))
            return
        try:
            writer.write(text + "\n", 0.0 if writer.is_busy else _OPTIONAL_SECONDS)
        except TimeoutError:
            pass
        except (OSError, ValueError):
            writer.abandon()

    def _log(
        self, level: str, event: str, message: str, before: str = "", data: Mapping[str, Any] | None = None
    ) -> str:
        """Return a message for stderr in the form that was asked for; `before` precedes it in the text format.

        With `--verbose`, the time precedes both: in UTC, RFC 3339 with milliseconds.
        """
        self._logged = True
        match self.log_format:
            case "text":
                time_of_day = f"{rfc3339_milliseconds(now())} " if self.verbose else ""
                return self._clean_lines(message, f"crypto-trigger: {time_of_day}{before}")
            case "json":
                head = {"time": rfc3339(now()), "level": level, "event": event, "message": message}
                return self._json(head | dict(data or {}), self._stderr)
            case _:
                assert_never(self.log_format)

    def _clean_lines(self, text: str, before: str = "") -> str:
        # A secret may have several lines.
        return "\n".join(before + escaped(part) for part in masked(text).split("\n"))

    def _clean(self, text: str) -> str:
        """Mask secrets and escape control characters."""
        return escaped(masked(text))

    def _json(self, data: Mapping[str, Any] | Sequence[Any], writer: Writer | None = None) -> str:
        safe = self._masked(data)
        text = json.dumps(safe, ensure_ascii=False)
        # Escape everything that is not ASCII if there are control characters, characters that the stream cannot encode,
        # or lone surrogates (bytes of the environment that are not UTF-8).
        if not text.isprintable() or (writer and not writer.takes(text)):
            return json.dumps(safe)
        return text

    def _masked(self, data: Any) -> Any:  # noqa: ANN401 - JSON
        """Mask values. Keys and enum members are our own words: they stay, even if a password is the same word."""
        if isinstance(data, StrEnum):
            return data
        if isinstance(data, str):
            return masked(data)
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
