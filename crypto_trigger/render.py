"""Values -> lines, JSON objects and tables. Everything printed passes here, and nothing secret passes.

stdout is the answer: one line, or one JSON object, or nothing. stderr is everything else.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO, assert_never

from crypto_trigger.errors import Outcome, TriggerError
from crypto_trigger.values import Delivery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crypto_trigger.brokers.setup import SetupResult
    from crypto_trigger.retry import Wait
    from crypto_trigger.settings import Settings
    from crypto_trigger.trigger import Receipt, Trigger

MASK = "***"
_SHORTEST_SECRET = 6
_GUARDS = {"msg-id": "; guarded by the msg id alone: no permission to read the stream", "none": "; forced"}


class Output:
    """Where a command's words go: the answer to stdout, the rest to stderr, in the form asked for.

    A closed or full stdout never changes the exit status: that answers for the trigger, not for the terminal.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self._secrets: tuple[str, ...] = ()
        self._status: Any = None

    def keep_secret(self, secrets: Sequence[str]) -> None:
        """Print `***` in the place of each of these texts from now on."""
        # The longest first: one may be part of another. A net under masks that each place has of its own, so that the
        # shortest, which would blot out ordinary words, are left to those.
        self._secrets = tuple(sorted((s for s in secrets if len(s) >= _SHORTEST_SECRET), key=len, reverse=True))

    def answer(self, line: str, data: Mapping[str, Any] | Sequence[Any]) -> None:
        """Print the answer: `line`, or `data` as one JSON object."""
        if self.quiet:
            return
        self._write(sys.stdout, self.json(data) if self.as_json else line)

    def failure(self, message: str) -> None:
        """Print why the run failed, on stderr; several lines only for several problems."""
        self._write(sys.stderr, "\n".join(f"crypto-trigger: {line}" for line in message.split("\n")))

    def warn(self, message: str) -> None:
        """Print a warning, on stderr."""
        self._write(sys.stderr, f"crypto-trigger: warning: {message}")

    def detail(self, message: str) -> None:
        """Print what only `--verbose` asks for, on stderr."""
        if self.verbose:
            self._write(sys.stderr, f"crypto-trigger: {message}")

    def waiting(self, wait: Wait) -> None:
        """Show why a run waits: as a line with `--verbose`, as a moving one on a terminal, else not at all."""
        line = (
            f"attempt {wait.attempt} failed: {wait.cause.message}; "
            f"next in {wait.wait:.1f}s, giving up in {wait.left:.0f}s"
        )
        if self.verbose:
            self.detail(line)
        elif sys.stderr is not None and sys.stderr.isatty() and not self.quiet:
            self._spin(self._clean(line))

    def settle(self) -> None:
        """Take the moving line away."""
        status, self._status = self._status, None
        if status is not None:
            status.stop()

    def json(self, data: Mapping[str, Any] | Sequence[Any]) -> str:
        """Return `data` as one line of JSON, without anything secret."""
        text = json.dumps(self._masked(data), ensure_ascii=False)
        # Bytes of the environment that are no UTF-8 come as lone surrogates, which no file takes; JSON writes them so.
        return text.encode(errors="backslashreplace").decode()

    def traceback(self, error: BaseException) -> None:
        """Print a traceback, on stderr: what a bug leaves behind."""
        import traceback

        self._write(sys.stderr, "".join(traceback.format_exception(error)).rstrip("\n"), clean=False)

    def table(self, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> str:
        """Return rows as a table: as wide as the terminal, or as the text where there is none."""
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
        for column in columns:
            table.add_column(column.upper(), overflow="fold")
        for row in rows:
            table.add_row(*(Text(self._clean(row[column])) for column in columns))
        width = None if sys.stdout is not None and sys.stdout.isatty() else 1000
        console = Console(width=width, color_system=None)
        with console.capture() as captured:
            console.print(table)
        return "\n".join(line.rstrip() for line in captured.get().splitlines())

    def _spin(self, line: str) -> None:
        from rich.console import Console
        from rich.status import Status as Spinner
        from rich.text import Text

        if self._status is None:
            self._status = Spinner(Text(line), console=Console(stderr=True))
            self._status.start()
        self._status.update(Text(line))

    def _write(self, stream: TextIO | None, text: str, *, clean: bool = True) -> None:
        self.settle()
        if stream is None:  # closed before we began
            return
        lines = text.split("\n")
        whole = "\n".join(self._clean(line) for line in lines) if clean else self._mask(text)
        try:
            stream.write(whole + "\n")
            stream.flush()
        except (OSError, ValueError) as error:
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                self.warn(f"the answer could not be written to stdout: {error}")
            _abandon(stream)

    def _clean(self, text: str) -> str:
        """Mask what is secret and escape what a terminal would obey."""
        masked = self._mask(text)
        if masked.isprintable():
            return masked
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in masked)

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text

    def _masked(self, data: Any) -> Any:  # noqa: ANN401 - JSON
        if isinstance(data, str):
            return self._mask(data)
        if isinstance(data, dict):
            return {key: self._masked(value) for key, value in data.items()}
        if isinstance(data, (list, tuple)):
            return [self._masked(value) for value in data]
        return data


def abandon_full() -> None:
    """Give up those of stdout and stderr that do not take what was written to them."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            _abandon(stream)


def _abandon(stream: TextIO) -> None:
    """Send what is left of a stream nowhere, so that the interpreter's own flush at exit has nothing to say."""
    with suppress(OSError, ValueError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)


def receipt_line(receipt: Receipt, trigger: Trigger) -> str:
    """Return the one line of a publish that went well."""
    tried = f" after {receipt.attempts} attempts" if receipt.attempts > 1 else ""
    stored = _place(receipt)
    guard = _GUARDS.get(receipt.guard or "", "")
    if receipt.outcome is Outcome.PUBLISHED:
        return f"published {trigger.subject} for {trigger.slot} {stored}{tried}{guard}"
    if receipt.outcome is Outcome.DUPLICATE:
        return f"duplicate: {trigger.subject} for {trigger.slot} is already {stored}{tried}"
    return (
        f"superseded: {trigger.subject} for {trigger.slot} is not needed: "
        f"the later trigger of {receipt.later} is {stored}{tried}"
    )


def _place(receipt: Receipt) -> str:
    if receipt.stream:
        return f"in stream {receipt.stream}, sequence {receipt.seq}"
    if receipt.cluster:
        return f"in NATS Streaming cluster {receipt.cluster}"
    return "to a subscriber that listens" if receipt.subscriber else "to whoever listens"


def error_line(error: TriggerError) -> str:
    """Return what went wrong and what to do about it; a line for each problem of a ConfigError."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


def report(
    *,
    outcome: Outcome,
    status: int,
    settings: Settings | None = None,
    trigger: Trigger | None = None,
    receipt: Receipt | None = None,
    error: TriggerError | BaseException | None = None,
    attempts: int,
    elapsed: float,
) -> dict[str, Any]:
    """Return the report of a publish; keys that do not apply are absent. `elapsed` is in seconds."""
    stream, cluster = _stores(settings) if settings else (None, None)
    data = {
        "outcome": str(outcome),
        "status": int(status),
        "delivery": str(settings.delivery) if settings else None,
        "subject": settings.subject if settings else None,
        "stream": stream,
        "cluster": cluster,
        "seq": receipt.seq if receipt else None,
        "msg_id": trigger.msg_id if trigger else None,
        "scheduled_at": str(trigger.slot) if trigger else None,
        "guard": receipt.guard if receipt else None,
        "attempts": attempts or None,
        "elapsed_ms": round(elapsed * 1000),
        "server": receipt.server if receipt else None,
        "client_id": (receipt.client_id if receipt else None) or (settings.client_id if settings else None),
        "subscriber": receipt.subscriber if receipt else None,
        "warnings": list(receipt.warnings) or None if receipt else None,
        "error": error_data(error) if error else None,
    }
    return {key: value for key, value in data.items() if value is not None}


def error_data(error: BaseException) -> dict[str, str]:
    """Return an error as the report has it: `kind`, `message` and, if there is one, `hint`."""
    if not isinstance(error, TriggerError):
        return {"kind": type(error).__name__, "message": str(error)}
    hint = {"hint": error.hint} if error.hint else {}
    return {"kind": error.kind, "message": error.message, **hint}


def dry_run_line(trigger: Trigger, settings: Settings) -> str:
    """Return what a publish would send, and where to."""
    servers = ", ".join(map(str, settings.servers))
    stream, cluster = _stores(settings)
    place = f"stream {stream}" if stream else f"NATS Streaming cluster {cluster}" if cluster else "no stream"
    return (
        f"dry run: would publish {trigger.payload.decode()} to {trigger.subject} for {trigger.slot} "
        f"(msg id {trigger.msg_id}, {place}, {servers})"
    )


def _stores(settings: Settings) -> tuple[str | None, str | None]:
    """Return the stream and the cluster that store the trigger, of which a delivery has one or none."""
    stream = settings.stream if settings.delivery is Delivery.JETSTREAM else None
    cluster = settings.cluster_id if settings.delivery is Delivery.STREAMING else None
    return stream, cluster


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
