"""`check` as a monitoring plugin: whatever happens, its status is 0 to 3, and its answer has the format asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self, assert_never

from crypto_trigger import signals, values
from crypto_trigger.errors import ConfigError, Fact, TriggerError, Unavailable, Unusable, Usage
from crypto_trigger.findings import Finding, Level, Thresholds, examine, window_length
from crypto_trigger.freshness import Cadence, check_since
from crypto_trigger.masking import shown
from crypto_trigger.plugin_formats import Answer, data, nagios, prometheus
from crypto_trigger.run import Run
from crypto_trigger.values import Delivery, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    from crypto_trigger.settings import Settings

FORMATS = ("nagios", "json", "prometheus")
# The server answers, and says that the triggers cannot be there.
_NOT_THERE = (Fact.NO_STREAM, Fact.JETSTREAM_OFF, Fact.NO_RESPONDERS)
_GRACE_DIVISOR = 3


class Asked(NamedTuple):
    """The options of `check`, as they were given on the command line."""

    since: str
    grace: str | None
    missed_warn: int
    missed_critical: int
    consumers: Sequence[str]
    consumer_warn: str | None
    consumer_critical: str | None


class Plan(NamedTuple):
    """What to look at, and when it is bad: the options of `check`, checked."""

    since: timedelta
    cadence: Cadence
    thresholds: Thresholds
    consumers: tuple[str, ...]

    @classmethod
    def of(cls, asked: Asked, settings: Settings) -> Self:
        """Check the options. Raises Usage with everything that is wrong with them."""
        problems: list[str] = []

        def parsed(
            flag: str, raw: str | None, default: timedelta, parse: Callable[[str], timedelta] = values.duration
        ) -> timedelta:
            try:
                return default if raw is None else parse(raw)
            except ValueError as error:
                problems.append(f"{flag} '{shown(raw or '')}' {error}")
                return default

        every = settings.every
        since = parsed("--since", asked.since, every)
        grace = parsed("--grace", asked.grace, every / _GRACE_DIVISOR, values.tolerance)
        warn = parsed("--consumer-warn", asked.consumer_warn, grace, values.tolerance)
        critical = parsed("--consumer-critical", asked.consumer_critical, every, values.tolerance)
        for name in asked.consumers:
            try:
                values.name(name)
            except ValueError as error:
                problems.append(f"--consumer '{shown(name)}' {error}")
        try:
            check_since(since, every)
        except ValueError as error:
            problems.append(f"--since '{shown(asked.since)}' {error}")
        if not problems:
            problems += _crossed(asked, grace, warn, critical, every)
        if problems:
            raise Usage("; ".join(problems))
        thresholds = Thresholds(asked.missed_warn, asked.missed_critical, warn, critical)
        cadence = Cadence(every, settings.early, grace)
        return cls(window_length(since, every), cadence, thresholds, tuple(dict.fromkeys(asked.consumers)))


def _crossed(asked: Asked, grace: timedelta, warn: timedelta, critical: timedelta, every: timedelta) -> list[str]:
    """Return what is wrong with options that do not fit each other."""
    problems = []
    if grace > every:
        problems.append(
            f"--grace {format_duration(grace)} is longer than a slot, CRYPTO_TRIGGER_EVERY {format_duration(every)}"
        )
    if asked.missed_warn > asked.missed_critical:
        problems.append(f"--missed-warn {asked.missed_warn} is more than --missed-critical {asked.missed_critical}")
    if warn > critical:
        problems.append(
            f"--consumer-warn {format_duration(warn)} is longer than --consumer-critical {format_duration(critical)}"
        )
    return problems


class CheckRun(Run):
    """A run of `check`: it ends in an answer, whatever goes wrong, also if the command line cannot be read.

    Where the answer does not go to stdout, the reason for a failure goes to stderr.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(argv)
        self._format, self._output_file = _wanted(argv)
        self._names: tuple[str, str] = ("", "")

    def prepare(
        self, chosen: str | None, output_file: str | None, *, quiet: bool, verbose: bool, as_json: bool
    ) -> None:
        """Set the form of the answer and where it goes. Raises Usage."""
        self.begin(quiet=quiet, verbose=verbose)
        self._format, self._output_file = chosen or ("json" if as_json else "nagios"), output_file
        if self._format not in FORMATS:
            unknown, self._format = self._format, "nagios"
            raise Usage(f"--format '{shown(unknown)}' must be {', '.join(FORMATS)}")
        if as_json and self._format != "json":
            raise Usage(f"--json and --format {self._format} exclude each other")

    def check(self, settings: Settings, asked: Asked) -> None:
        """Make the check and print its answer."""
        plan = Plan.of(asked, settings)
        match settings.delivery:
            case Delivery.JETSTREAM:
                pass
            case Delivery.CORE | Delivery.STREAMING:
                problem = "has nothing to check: check needs JetStream, CRYPTO_TRIGGER_DELIVERY=jetstream"
                raise ConfigError(settings.source("delivery").problem(problem))
            case _:
                assert_never(settings.delivery)
        from crypto_trigger.brokers.inspection import Inspection
        from crypto_trigger.retry import GaveUp, Limits, Retry, complete

        inspection = Inspection(settings, plan.since, plan.consumers)
        limits = Limits.from_settings(settings, self.reading)
        try:
            held, consumers = complete(Retry(limits, self.output.waiting).run(inspection))
        except GaveUp as end:
            raise end.error() from end.last
        self.output.detail(f"{held.server} answered")
        if held.reading is None:
            self.output.detail(f"{held.server}: the server does not tell its time; the clock of this host decides")
        result = examine(held, consumers, plan.since, plan.cadence, plan.thresholds)
        self.status = self._say(Answer(result.level, result.findings, *self._names, result=result))

    def _take(self, known: Mapping[str, object]) -> None:
        super()._take(known)
        self._names = str(known.get("stream") or ""), str(known.get("subject") or "")

    def fail(self, error: BaseException) -> int:
        """Report why there is no result, and return the status."""
        signals.settle()
        from crypto_trigger.report import Failure

        failure = Failure.of(error)
        if not isinstance(error, TriggerError):
            self.output.traceback(error)
            failure = failure._replace(hint="this is a bug in crypto-trigger; please report it")
        text = "; ".join(filter(None, (failure.message, failure.hint)))
        if self._output_file or self.output.quiet:
            self.output.failure(text)
        level = _level(error)
        return self._say(Answer(level, (Finding(level, text),), *self._names, failure=failure))

    def refuse(self, error: TriggerError, said: str) -> int:
        """Answer a wrong command line. `said` is the parser's message about it."""
        self.output.pass_on("", said)
        return self.fail(error)

    def _say(self, answer: Answer) -> int:
        """Print the answer or write it to the output file, and return the status."""
        found: Mapping[str, object] = {}
        match self._format:
            case "json":
                self.output.as_json, text, found = True, "", data(answer)
            case "prometheus":
                self.output.as_json, text = False, prometheus(answer)
            case _:
                self.output.as_json, text = False, nagios(answer)
        if self._output_file is None:
            self.output.answer(text, found)
            return int(answer.level)
        from crypto_trigger.files import replace

        try:
            content = self.output.text(text, found).encode("utf-8", "backslashreplace")
            replace(values.path(self._output_file), content)
        except (ValueError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.output.failure(f"--output-file '{shown(self._output_file)}' cannot be written: {reason.lower()}")
            return int(Level.UNKNOWN)
        return int(answer.level)


def _level(error: BaseException) -> Level:
    """Return the level of a failure: CRITICAL if triggers cannot be stored either, else UNKNOWN."""
    if isinstance(error, Unavailable):
        # Without an attempt it was this host that lacked something.
        return Level.CRITICAL if error.attempts else Level.UNKNOWN
    if isinstance(error, Unusable) and error.fact in _NOT_THERE:
        return Level.CRITICAL
    return Level.UNKNOWN


def _wanted(argv: Sequence[str]) -> tuple[str, str | None]:
    """Return the format and the output file that a command line asks for, as far as it can be read."""
    chosen, output_file = "nagios", None
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if word == "--json":
            chosen = "json"
        elif option == "--format":
            chosen = value if equals else after
        elif option == "--output-file":
            output_file = value if equals else after
    return chosen if chosen in FORMATS else "nagios", output_file or None
