"""Values -> lines, JSON objects and tables. Everything printed passes here, and nothing secret passes.

stdout is the answer: one line, or one JSON object, or nothing. stderr is everything else.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from io import TextIOBase
from typing import TYPE_CHECKING, Any, assert_never

from crypto_trigger.errors import Outcome
from crypto_trigger.masking import MASK, escaped
from crypto_trigger.streams import LEAST, Writer
from crypto_trigger.values import Delivery, rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crypto_trigger.brokers.setup import SetupResult
    from crypto_trigger.report import Report
    from crypto_trigger.retry import Wait

_SHORTEST_SECRET = 6
_GUARDS = {"msg-id": "; guarded by the msg id alone: no permission to read the stream", "none": "; forced"}
# How long words that the run does not depend on wait for a reader, in seconds: the event loop waits as long.
_PASSING = 0.25
# How long an answer waits for a reader while the run's deadline is not known, in seconds.
_DEADLINE_UNKNOWN = 1.0


class Output:
    """Where a command's words go: the answer to stdout, the rest to stderr, in the form asked for.

    A closed or full stdout never changes the exit status: that answers for the trigger, not for the terminal. Nor does
    a reader that does not read hold the run: the answer and the reason of a failure are given up at `deadline` (on the
    monotonic clock, in seconds; None where it is not known), and everything else is dropped at once.
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
    def patience(self) -> float:
        """How long an answer waits for a reader from now on, in seconds."""
        return _DEADLINE_UNKNOWN if self.deadline is None else max(LEAST, self.deadline - time.monotonic())

    def keep_secret(self, secrets: Sequence[str]) -> None:
        """Print `***` in the place of each of these texts from now on."""
        # The longest first: one may be part of another. The shortest would blot out ordinary words; each place that
        # shows a value masks those itself.
        self._secrets = tuple(sorted((s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True))

    def answer(self, text: str, data: Mapping[str, Any] | Sequence[Any]) -> None:
        """Print the answer: `text`, or `data` as one JSON object."""
        if self.quiet:
            return
        self._finally(self._stdout, self._json(data, self._stdout) if self.as_json else self._clean_lines(text))

    def report(self, report: Report) -> None:
        """Print what a run came to: why it failed on stderr, the answer on stdout."""
        for warning in report.warnings or ():
            self.warn(warning)
        if report.error:
            self.failure(report_line(report))
        if self.as_json or not report.error:
            self.answer(report_line(report), report_data(report))

    def show(self, text: str) -> None:
        """Print one of many lines on stdout; it is dropped if nobody reads."""
        self._passing(self._stdout, self._clean_lines(text))

    def failure(self, message: str) -> None:
        """Print why the run failed, on stderr; several lines only for several problems."""
        self._finally(self._stderr, self._clean_lines(message, "crypto-trigger: "))

    def warn(self, message: str) -> None:
        """Print a warning, on stderr."""
        self._passing(self._stderr, self._clean_lines(f"crypto-trigger: warning: {message}"))

    def detail(self, message: str) -> None:
        """Print what only `--verbose` asks for, on stderr."""
        if self.verbose:
            self._passing(self._stderr, self._clean_lines(f"crypto-trigger: {message}"))

    def waiting(self, wait: Wait) -> None:
        """Show why a run waits: as a line with `--verbose`, as a moving one on a terminal, else not at all."""
        text = (
            f"attempt {wait.attempt} failed: {wait.cause.message}; "
            f"next in {wait.wait:.1f}s, giving up in {wait.left:.0f}s"
        )
        if self.verbose:
            self.detail(text)
        elif self._stderr.is_terminal and not self.quiet:
            self._spin(self._clean(text))

    def traceback(self, error: BaseException) -> None:
        """Print a traceback, on stderr: what a bug leaves behind."""
        import traceback

        self._finally(self._stderr, self._mask("".join(traceback.format_exception(error)).rstrip("\n")))

    def pass_on(self, stdout: str, stderr: str) -> None:
        """Print what somebody else has written: the parser its help, or what is wrong with the command line."""
        for writer, text in ((self._stdout, stdout), (self._stderr, stderr)):
            if text:
                self._finally(writer, self._clean_lines(text.removesuffix("\n")))

    def settle(self) -> None:
        """Take the moving line away."""
        spinner, self._spinner = self._spinner, None
        if spinner is not None:
            spinner.stop()

    def json(self, report: Report) -> str:
        """Return the report as one line of JSON, without anything secret."""
        return self._json(report_data(report))

    def settings(self, rows: Sequence[Mapping[str, str]]) -> str:
        """Return rows of `name`, `value`, `origin` and `meaning`: wrapped on a terminal, two lines each elsewhere."""
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

    def _finally(self, writer: Writer, text: str) -> None:
        """Write what the run must say; a stream that does not take it in time is given up."""
        self.settle()
        try:
            writer.write(text + "\n", self.patience)
        except (OSError, ValueError) as error:
            writer.abandon()
            if writer is self._stdout and not isinstance(error, BrokenPipeError):
                self.warn(f"the answer could not be written to stdout: {error}")

    def _passing(self, writer: Writer, text: str) -> None:
        """Write what the run can do without; it is dropped if nobody reads."""
        self.settle()
        try:
            writer.write(text + "\n", 0.0 if writer.is_busy else _PASSING)
        except TimeoutError:
            pass
        except (OSError, ValueError):
            writer.abandon()

    def _clean_lines(self, text: str, before: str = "") -> str:
        return "\n".join(before + self._clean(part) for part in text.split("\n"))

    def _clean(self, text: str) -> str:
        """Mask what is secret and escape what a terminal would obey."""
        return escaped(self._mask(text))

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def _json(self, data: Mapping[str, Any] | Sequence[Any], writer: Writer | None = None) -> str:
        masked = self._masked(data)
        text = json.dumps(masked, ensure_ascii=False)
        # What a terminal would obey, what the stream's encoding lacks, and the lone surrogates that stand for bytes of
        # the environment that are no UTF-8.
        if not text.isprintable() or (writer and not writer.takes(text)):
            return json.dumps(masked)
        return text

    def _masked(self, data: Any) -> Any:  # noqa: ANN401 - JSON
        """Mask values; the names that we gave to keys and kinds are no secrets, even if a password is the same word."""
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
    """What rich writes a moving line to: a frame that the terminal does not take at once is dropped."""

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
                self._writer.write(frame, 0.0 if self._writer.is_busy else _PASSING)


def report_line(report: Report) -> str:
    """Return what a run came to, as a person reads it; several lines only for several wrong settings."""
    match report.outcome:
        case Outcome.PUBLISHED:
            return f"published {_slot(report)} {_place(report)}{_tried(report)}{_GUARDS.get(report.guard or '', '')}"
        case Outcome.DUPLICATE:
            return f"duplicate: {_slot(report)} is already {_place(report)}{_tried(report)}"
        case Outcome.SUPERSEDED:
            later = f"the later trigger of {_moment(report.superseded_by)} is {_place(report)}"
            return f"superseded: {_slot(report)} is not needed: {later}{_tried(report)}"
        case Outcome.DRY_RUN:
            return _dry_run(report)
        case (
            Outcome.UNKNOWN
            | Outcome.REJECTED
            | Outcome.UNAVAILABLE
            | Outcome.PROTOCOL
            | Outcome.DENIED
            | Outcome.CONFIG
            | Outcome.INTERRUPTED
        ):
            return _reason(report)
        case Outcome.BUG:
            return "this is a bug in crypto-trigger; please report it with the lines above"
        case _:
            assert_never(report.outcome)


def report_data(report: Report) -> dict[str, Any]:
    """Return what a run came to, as JSON has it; keys that do not apply are absent."""
    data = report._asdict()
    for key, value in data.items():
        if isinstance(value, datetime):
            data[key] = rfc3339(value)
    if report.error:
        data["error"] = {key: value for key, value in report.error._asdict().items() if value is not None}
    return {key: value for key, value in data.items() if value is not None}


def _slot(report: Report) -> str:
    return f"{report.subject} for {_moment(report.scheduled_at)}"


def _moment(moment: datetime | None) -> str:
    return rfc3339(moment) if moment else "no slot"


def _tried(report: Report) -> str:
    return f" after {report.attempts} attempts" if (report.attempts or 1) > 1 else ""


def _place(report: Report) -> str:
    """Return where the trigger is, or was sent to."""
    match report.delivery:
        case Delivery.JETSTREAM:
            return f"in stream {report.stream}, sequence {report.seq}"
        case Delivery.STREAMING:
            return f"in NATS Streaming cluster {report.cluster}"
        case Delivery.CORE:
            return "to a subscriber that listens" if report.subscriber else "to whoever listens"
        case None:
            return "nowhere"
        case _:
            assert_never(report.delivery)


def _dry_run(report: Report) -> str:
    from crypto_trigger.trigger import PAYLOAD

    match report.delivery:
        case Delivery.JETSTREAM:
            place = f"stream {report.stream}"
        case Delivery.STREAMING:
            place = f"NATS Streaming cluster {report.cluster}"
        case Delivery.CORE | None:
            place = "no stream"
        case _:
            assert_never(report.delivery)
    return (
        f"dry run: would publish {PAYLOAD.decode()} to {_slot(report)} "
        f"(msg id {report.msg_id}, {place}, {', '.join(report.servers or ())})"
    )


def _reason(report: Report) -> str:
    """Return why a run failed, what to do about it, and what became of its trigger if it was to deliver one."""
    error = report.error
    if error is None:
        return str(report.outcome)
    said = f"{error.message}; {error.hint}" if error.hint else error.message
    if report.scheduled_at is None:
        return said
    match report.delivery:
        case Delivery.CORE:
            end = "may have been delivered" if error.perhaps else "was not delivered"
        case Delivery.JETSTREAM | Delivery.STREAMING | None:
            end = "may be stored" if error.perhaps else "was not stored"
        case _:
            assert_never(report.delivery)
    return f"{said}; {_slot(report)} {end}"


def _wrapped(text: str, width: int | None, indent: int) -> list[str]:
    """Return lines of at most `width` columns where words allow it: a long value is left whole, to be copied."""
    if width is None:
        return [text]
    import textwrap

    return textwrap.wrap(text, width, subsequent_indent=indent * " ", break_long_words=False, break_on_hyphens=False)


def _cut(text: str, width: int) -> str:
    """Return a line cut to `width` columns, at a word where there is one."""
    if len(text) <= width:
        return text
    return f"{text[: max(0, width - 3)].rpartition(' ')[0] or text[: max(0, width - 4)]} ..."


def setup_line(setup: SetupResult) -> str:
    """Return what became of the stream, and what is left to its owner."""
    from crypto_trigger.brokers.setup import Change  # loaded by now; a publish does not load it

    name = f"stream {setup.stream}"
    created = ", ".join(f"{key} {value}" for key, value in setup.created.items())
    match setup.change:
        case Change.CREATED:
            line = f"{name} created on {setup.server}: {created}"
        case Change.WOULD_CREATE:
            line = f"dry run: {name} would be created on {setup.server}: {created}"
        case Change.UNCHANGED:
            line = f"{name} is as needed"
        case Change.UPDATED:
            line = f"{name} updated: {_differences(setup, 'was', 'is')}"
        case Change.WOULD_UPDATE:
            line = f"dry run: {name} would be updated: {_differences(setup, 'is', 'would be')}"
        case Change.DIFFERS:
            line = f"{name} differs: {_differences(setup, 'is', 'must be')}"
        case _:
            assert_never(setup.change)
    notes = ", ".join(
        f"{note.name} is {note.found}{f' ({note.effect})' if note.effect else ''}" for note in setup.notes
    )
    return f"{line}; left to its owner: {notes}" if notes else line


def _differences(setup: SetupResult, found: str, wanted: str) -> str:
    return "; ".join(
        f"{difference.name} {found} {difference.found}, {wanted} {difference.wanted}"
        for difference in setup.differences
    )


def setup_data(setup: SetupResult) -> dict[str, Any]:
    """Return what became of the stream, as JSON has it; keys that do not apply are absent."""
    data = {
        "outcome": str(setup.change),
        "status": int(setup.status),
        "stream": setup.stream,
        "server": setup.server,
        "created": dict(setup.created),
        "differences": [difference._asdict() for difference in setup.differences],
        "notes": [{key: text for key, text in note._asdict().items() if text} for note in setup.notes],
        "hint": setup.hint,
    }
    return {key: value for key, value in data.items() if value not in ({}, [], "")}
