"""`check` as a monitoring plugin: whatever happens, its status is 0 to 3, and its answer has the format asked for."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crypto_trigger.commands.ending import Run
from crypto_trigger.deadline import signals
from crypto_trigger.errors import Fact, TriggerError, Unavailable, Unusable, Usage
from crypto_trigger.monitoring.coverage import check_since
from crypto_trigger.monitoring.plugin import Answer, data, nagios, prometheus
from crypto_trigger.monitoring.verdict import Finding, Level, Thresholds, examine, window_length
from crypto_trigger.monitoring.window import length, looking_back, wrong
from crypto_trigger.settings import values
from crypto_trigger.settings.masking import shown
from crypto_trigger.settings.values import name
from crypto_trigger.slots import times
from crypto_trigger.slots.times import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from crypto_trigger.monitoring.coverage import Cadence
    from crypto_trigger.monitoring.verdict import CheckResult
    from crypto_trigger.reporting.terminal import Output
    from crypto_trigger.settings.load import Settings
    from crypto_trigger.slots.contents import Consumer, Held

FORMATS = ("nagios", "json", "prometheus")
# The server answers, and says that the triggers cannot be there.
_NOT_THERE = (Fact.NO_STREAM, Fact.JETSTREAM_OFF, Fact.NO_RESPONDERS)


class CheckRun(Run):
    """A run of `check`: it ends in an answer, whatever goes wrong, also if the command line cannot be read.

    The reason for a failure goes to stderr if it is not on stdout (with an output file, and with metrics), and into a
    JSON log. With a file of `--on-change` all of it is kept back until it is known whether it is news; what `--verbose`
    tells is not.
    """

    def __init__(self, command: str | None, output: Output, started: float, *, is_process: bool = True) -> None:
        super().__init__(command, output, started, is_process=is_process)
        self._format = "nagios"
        self._output_file: str | None = None
        self._on_change: str | None = None
        self._names: tuple[str, str] = ("", "")

    def read(self, options: Mapping[str, Any]) -> None:
        """Take the options: the format and the two files count for a wrong command line, too."""
        super().read(options)
        chosen = "json" if options.get("as_json") else options.get("output_format")
        self._format = chosen if chosen in FORMATS else "nagios"
        self._output_file, self._on_change = options.get("output_file"), options.get("on_change")

    def prepare(
        self,
        chosen: str | None,
        output_file: str | None,
        on_change: str | None,
        *,
        quiet: bool,
        verbose: bool,
        as_json: bool,
    ) -> None:
        """Set the form of the answer, where it goes, and when. Raises Usage."""
        self.begin(quiet=quiet, verbose=verbose)
        one_file = output_file and on_change and os.path.realpath(output_file) == os.path.realpath(on_change)
        # The answer of this run goes to the file all the same.
        self._on_change = None if one_file else on_change
        self._hold()
        self._format, self._output_file = chosen or ("json" if as_json else "nagios"), output_file
        if self._format not in FORMATS:
            unknown, self._format = self._format, "nagios"
            raise Usage(f"--format '{shown(unknown)}' must be {', '.join(FORMATS)}")
        if as_json and self._format != "json":
            raise Usage(f"--json and --format {self._format} exclude each other")
        if one_file:
            raise Usage("--output-file and --on-change name one file: give each its own")

    def check(
        self,
        settings: Settings,
        since: timedelta,
        cadence: Cadence,
        thresholds: Thresholds,
        consumers: Sequence[str],
    ) -> None:
        """Make the check of the slots of the time `since`, a `window_length`, and print its answer."""
        from crypto_trigger.delivery.reading import Inspection

        def judge(held: Held, found: Sequence[Consumer]) -> CheckResult:
            return examine(held, found, since, cadence, thresholds)

        inspection = Inspection(settings, since, consumers, lambda *seen: judge(*seen).level is not Level.OK)
        held, found = self.attempt(settings, inspection)
        self.output.detail(held.answered)
        result = judge(held, found)
        self.status = self._say(Answer(result.level, result.findings, *self._names, result=result))

    def _take(self, known: Mapping[str, object]) -> None:
        super()._take(known)
        self._names = str(known.get("stream") or ""), str(known.get("subject") or "")

    def fail(self, error: BaseException) -> int:
        """Report why there is no result, and return the status."""
        return self.refuse(error, "")

    def refuse(self, error: BaseException, said: str) -> int:
        """Report why there is no result, and return the status.

        `said` is the parser's message about a wrong command line, or empty.
        """
        signals.settle()
        self._hold()
        try:
            return self._explain(error, said)
        except Exception as bug:  # noqa: BLE001 - Python's own status for it, 1, would mean WARNING
            self.output.release()
            self.output.traceback(bug)
            return int(Level.UNKNOWN)

    def _hold(self) -> None:
        """Print nothing before it is known whether it is news."""
        if self._on_change is not None and not self.output.verbose:
            self.output.hold()

    def _explain(self, error: BaseException, said: str) -> int:
        from crypto_trigger.reporting.report import Failure

        self._search()
        failure = Failure.of(error)
        if not isinstance(error, TriggerError):
            self.output.traceback(error)
            failure = Failure(failure.kind, failure.message, "this is a bug in crypto-trigger; please report it")
        text = "; ".join(filter(None, (failure.message, failure.hint)))
        if self.output.log_format == "text" and said:
            self.output.pass_on("", said)
        elif self.output.log_format != "text" or self._output_file or self.output.quiet or self._format == "prometheus":
            self.output.failure(text)
        level = _level(error)
        return self._say(Answer(level, (Finding(level, text),), *self._names, failure=failure))

    def _say(self, answer: Answer) -> int:
        """Print the answer or write it to the output file, and return the status."""
        found: Mapping[str, object] = {}
        match self._format:
            case "json":
                self.output.as_json, text, found = True, "", data(answer)
            case "prometheus":
                self.output.as_json, text = False, prometheus(answer, datetime.now(UTC))
            case _:
                self.output.as_json, text = False, nagios(answer)
        level = answer.level
        if self._output_file is not None and not self._replace(self._output_file, self.output.text(text, found)):
            level = Level.UNKNOWN
        path = self._on_change
        if path is None:
            self._print(level, text, found)
        elif problem := self._print_news(path, level, answer, (text, found)):
            self.output.warn(
                f"--on-change '{shown(path)}' cannot be written: {problem}; "
                "until it can be, every run prints its answer"
            )
        return int(level)

    def _print(self, level: Level, text: str, found: Mapping[str, object]) -> bool:
        """Print the answer if it is not in a file. Return whether it could be written."""
        return self._output_file is not None or self.output.answer(text, found, _still(level))

    def _print_news(self, path: str, level: Level, answer: Answer, formed: tuple[str, Mapping[str, object]]) -> str:
        """Print the answer, and what was kept back, if the file at `path` does not say that it was printed already.

        Return why the file cannot be written, or an empty text. Every run writes it: one that could not would hide
        what comes next.
        """
        from crypto_trigger.commands import state_file

        now = times.now()
        before = state_file.read(path, now)
        if before and before.covers(level, now) and not state_file.write(path, before):
            self.output.drop()
            self.output.detail(f"not printed again, {shown(path)} says {level.name}: {nagios(answer)}")
            return ""
        # Printed first: what could not be printed is still news to the next run.
        if self.output.release() & self._print(level, *formed):
            return state_file.write(path, state_file.Printed(level, now))
        return ""

    def _replace(self, path: str, text: str) -> bool:
        """Write the answer to the output file. Return whether that could be done."""
        from crypto_trigger.deadline.files import put, reason

        try:
            put(values.path(path), text.encode("utf-8", "backslashreplace"), self.output.seconds_left)
        except (ValueError, OSError, OverflowError) as error:
            self.output.failure(f"--output-file '{shown(path)}' cannot be written: {reason(error)}")
            return False
        return True


def _still(level: Level) -> str:
    return f"the result is still {level.name} (status {int(level)})"


def _level(error: BaseException) -> Level:
    """Return the level of a failure: CRITICAL if triggers cannot be stored either, else UNKNOWN."""
    if isinstance(error, Unavailable):
        if error.fact == Fact.TOO_MANY_SUBSCRIPTIONS:
            return Level.UNKNOWN
        # Without an attempt it was this host that lacked something.
        return Level.CRITICAL if error.attempts else Level.UNKNOWN
    if isinstance(error, Unusable) and error.fact in _NOT_THERE:
        return Level.CRITICAL
    return Level.UNKNOWN


def check(
    run: CheckRun,
    *,
    env_files: Sequence[str] | None = None,
    since: str = "1h",
    grace: str | None = None,
    missed_warn: int = 1,
    missed_critical: int = 2,
    consumer: Sequence[str] | None = None,
    consumer_warn: str | None = None,
    consumer_critical: str | None = None,
    output_format: str | None = None,
    output_file: str | None = None,
    on_change: str | None = None,
    as_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    **flags: str | None,
) -> None:
    """Check that every slot has its trigger. Raises a TriggerError: Usage, ConfigError or a BrokerError."""
    run.prepare(output_format, output_file, on_change, quiet=quiet, verbose=verbose, as_json=as_json)
    settings = run.load(env_files, **flags)
    back, cadence = looking_back(settings, since, grace)
    limits = _thresholds(cadence, missed_warn, missed_critical, consumer_warn, consumer_critical)
    run.check(settings, _window(back, cadence, limits), cadence, limits, _consumer_names(consumer))


def _window(since: timedelta, cadence: Cadence, thresholds: Thresholds) -> timedelta:
    """Return how far back slots are looked at. Raises Usage if a threshold asks for too many of them."""
    back = window_length(since, cadence.every, thresholds)
    try:
        check_since(back, cadence.every)
    except ValueError as error:
        counted = (thresholds.missed_critical + 1) * cadence.every == back
        option = "--missed-critical" if counted else "--consumer-critical"
        value = str(thresholds.missed_critical) if counted else format_duration(thresholds.consumer_critical)
        raise wrong(option, f"'{value}' {error}") from None
    return back


def _thresholds(
    cadence: Cadence, missed_warn: int, missed_critical: int, consumer_warn: str | None, consumer_critical: str | None
) -> Thresholds:
    """Return from when on what is found is bad. Raises Usage."""
    warn = cadence.grace if consumer_warn is None else length("--consumer-warn", consumer_warn, zero=True)
    critical = (
        cadence.every if consumer_critical is None else length("--consumer-critical", consumer_critical, zero=True)
    )
    if missed_warn > missed_critical:
        raise wrong("--missed-warn", f"{missed_warn} is more than --missed-critical {missed_critical}")
    if warn > critical:
        raise wrong(
            "--consumer-warn",
            f"{format_duration(warn)}{'' if consumer_warn else ' (the grace)'} is longer than --consumer-critical "
            f"{format_duration(critical)}{'' if consumer_critical else ' (one slot)'}",
        )
    return Thresholds(missed_warn, missed_critical, warn, critical)


def _consumer_names(named: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of consumers, each once. Raises Usage."""
    found = tuple(dict.fromkeys(named or ()))
    for each in found:
        try:
            name(each)
        except ValueError as error:
            raise wrong("--consumer", f"'{shown(each)}' {error}") from None
    return found
