"""One run of one command: what is known of it so far, and the one place where its end is reported."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

from crypto_trigger.deadline import signals
from crypto_trigger.deadline.streams import LEAST
from crypto_trigger.errors import ConfigError, Outcome, Status, TriggerError, Usage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from crypto_trigger.deadline.retry import Attempt, Limits
    from crypto_trigger.delivery.draft import Draft
    from crypto_trigger.reporting.report import Report
    from crypto_trigger.reporting.terminal import Output
    from crypto_trigger.settings.load import Settings
    from crypto_trigger.slots.trigger import Receipt

T = TypeVar("T")
# How long to look, in seconds, for where to report a run to that ended before it had read its settings.
_SEARCH_SECONDS = 0.5
# The longest part of the deadline that is kept for a ping, in seconds; it is at most a tenth of the deadline.
_LONGEST_KEPT, _KEPT_PART = 5.0, 0.1


class Run:
    """One run of one command: what is known so far, so that its end can be reported in full, however it ends.

    `reading` is the time it took to read the settings, in seconds. The deadline includes it. `kept` is the last part of
    the deadline, in seconds: it is kept for the ping, so that a run that failed can still tell. `is_process` tells that
    the process was started for this run. `status` is the exit status of a run that ends without an error.
    """

    def __init__(self, command: str | None, output: Output, started: float, *, is_process: bool = True) -> None:
        """Take the command, None if it is not known, and `started`: when the run began, by the monotonic clock."""
        self.command = command
        self.started = started
        self.is_process = is_process
        self.status = int(Status.OK)
        self.output = output
        self.settings: Settings | None = None
        self.draft: Draft | None = None
        self.reading = 0.0
        self.kept = 0.0
        # The options, as far as the parser could read them.
        self._options: Mapping[str, Any] = {}
        # What is known of the settings; a setting whose value is wrong is missing. None before they are read.
        self._known: Mapping[str, Any] | None = None
        # Whether it writes a report file, metrics and pings, and whether it only rehearses.
        self._reports = self._monitored = command == "publish"
        self._rehearsal = False
        self._deadline: float | None = None
        self._ends_with_slot = False

    def read(self, options: Mapping[str, Any]) -> None:
        """Take the options by the names of their parameters, from a wrong command line as far as they can be read."""
        self._options = options
        self._rehearsal = self._reports and bool(options.get("rehearse"))
        self._monitored = self._reports and not self._rehearsal and not options.get("dry_run")

    def lack(self, error: ImportError | AttributeError) -> int:
        """Report a failure that a library may be to blame for, which is not there or another one; return the status."""
        from crypto_trigger.commands.libraries import problem_with

        problem = problem_with(error)
        return self.fail(ConfigError(problem) if problem else error)

    def begin(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        lines: bool = False,
    ) -> Output:
        """Set the form of the output. Return the output.

        `lines` tells that the answer is many lines, each of which is one JSON object with `as_json`.
        """
        self.output.as_json, self.output.quiet, self.output.verbose = as_json, quiet, verbose
        self.output.lines = lines
        return self.output

    def load(self, env_files: Sequence[str] | None, **flags: str | None) -> Settings:
        """Load the settings and print their warnings. Raises ConfigError."""
        from crypto_trigger.settings.load import load

        began = time.monotonic()
        try:
            settings = load(flags, env_files, os.environ, began)
        except ConfigError as error:
            self._take(error.known)
            raise ConfigError(*error.problems, *_papers(error.known), known=error.known) from None
        self.settings = settings
        self.reading = time.monotonic() - began
        self._take(vars(settings))
        for warning in settings.warnings:
            self.output.warn(warning)
        return settings

    def draft_trigger(self, settings: Settings, *, force: bool, offline: bool) -> Draft:
        """Return the draft of this run's trigger. Raises ConfigError as `Draft` does."""
        import socket

        from crypto_trigger.delivery.draft import Draft
        from crypto_trigger.slots.times import LATEST, now

        if (clock := now()) == LATEST:
            raise ConfigError("the clock of this host is beyond the year 2262, where Python cannot count; set it")
        began = time.monotonic()
        self.draft = Draft(settings, clock, socket.gethostname(), force=force, offline=offline)
        if (left := self.draft.time_left) is not None:
            until = began + left.total_seconds()
            if self._deadline is None or until < self._deadline:
                self._ends_with_slot = True
                self._end_by(until)
        return self.draft

    def limits(self, settings: Settings) -> Limits:
        """Return the time limits of the attempts of a publish that begin now."""
        limits = limits_of(settings, self.reading, self.kept)
        if self._ends_with_slot and self._deadline is not None:
            now = time.monotonic()
            return limits.ended_by_slot(self._deadline - self.kept - self.started, now - self.started)
        return limits

    def attempt(self, settings: Settings, work: Callable[[Attempt], Awaitable[T]]) -> T:
        """Return what the first successful attempt of a command that sends nothing returns. Raises a BrokerError."""
        from crypto_trigger.deadline.retry import GaveUp, Retry, complete

        limits = limits_of(settings, self.reading)
        try:
            return complete(Retry(limits, self.output.waiting).run(work))
        except GaveUp as end:
            raise end.error() from end.last

    def succeed(self, receipt: Receipt) -> None:
        """Report a successful publish, or a successful rehearsal of one."""
        if self._rehearsal:
            self._show(self._report(Outcome.REHEARSED, Status.OK).with_rehearsal(receipt))
        else:
            self._show(self._report(receipt.outcome, Status.OK).with_receipt(receipt))

    def dry_run(self, settings: Settings) -> None:
        """Report what a publish would send, and to which servers."""
        self._show(self._report(Outcome.DRY_RUN, Status.OK)._replace(servers=tuple(map(str, settings.servers))))

    def fail(self, error: BaseException) -> int:
        """Report a failure and return its exit status."""
        # A signal during the report would end it with a traceback.
        signals.settle()
        from crypto_trigger.reporting.report import verdict

        self._search()
        outcome, status = verdict(error)
        if not isinstance(error, TriggerError):
            self.output.traceback(error)
        elif isinstance(error, ConfigError) and self._reports and self.draft is None:
            # Without a slot, the line does not end in what became of the trigger.
            error.hint = error.hint or "nothing was published"
        if isinstance(error, Usage):
            self.output.as_json = False  # nothing is printed on stdout
        self._show(self._report(outcome, status).with_error(error))
        return status

    def refuse(self, error: TriggerError, said: str) -> int:
        """Report a wrong command line and return the exit status. `said` is the parser's message about it.

        Nothing is printed on stdout.
        """
        signals.settle()
        from crypto_trigger.reporting.report import verdict

        self._search()
        report = self._report(*verdict(error)).with_error(error)
        if self.output.log_format == "text":
            self.output.pass_on("", said)
        self._tell(report)
        return error.exit_status

    def _take(self, known: Mapping[str, Any]) -> None:
        """Take from the settings, as far as they are known, what the output and the deadline need."""
        self._known = known
        self.output.log_format = known.get("log_format") or "text"
        if give_up_after := known.get("give_up_after"):
            self._end_by(self.started + give_up_after.total_seconds())

    def _end_by(self, deadline: float) -> None:
        """Set the deadline of the whole run, by the monotonic clock, and keep the last part of it for the ping."""
        self._deadline = deadline
        if self._pings():
            self.kept = min(_LONGEST_KEPT, (deadline - self.started) * _KEPT_PART)
        self.output.deadline = deadline - self.kept

    def _pings(self) -> bool:
        """Tell whether a monitor is to be pinged at the end."""
        known = self._known or {}
        return self._monitored and bool(known.get("ping_url") or known.get("ping_fail_url"))

    def _search(self) -> None:
        """Find out where to report to, if the run ended before it had read its settings."""
        if self._known is not None:
            return
        from crypto_trigger.settings.load import load
        from crypto_trigger.settings.table import SETTINGS

        # A switch of the settings decides nothing about the report.
        flags = {row.attribute: self._options.get(row.attribute) for row in SETTINGS if row.flag and not row.is_switch}
        try:
            known = vars(load(flags, self._options.get("env_files"), os.environ, seconds=_SEARCH_SECONDS))
        except ConfigError as error:
            known = dict(error.known)
        except Exception:  # noqa: BLE001 - perhaps what ended the run; that is reported
            known = {}
        self._take(known)

    def _report(self, outcome: Outcome, status: int) -> Report:
        """Return the report of a run that ends now."""
        from crypto_trigger.reporting.report import Report

        report = Report.now(outcome, status, time.monotonic() - self.started)
        if self._rehearsal:
            report = report._replace(rehearsal=True)
        if self.settings:
            report = report.with_settings(self.settings)
        if self.draft:
            report = report.with_trigger(self.draft.trigger).with_warnings(self.draft.warnings)
        return report

    def _show(self, report: Report) -> None:
        """Print the result, then tell others."""
        for detail in self.draft.details if self.draft else ():
            self.output.detail(detail)
        self.output.report(report)
        self._tell(report)

    def _tell(self, report: Report) -> None:
        """Show the report in its other views: the files, the ping, the log. A new view is one more call here.

        A view that fails is one warning. It changes neither the report nor the status.
        """
        known = self._known or {}
        if self._reports and known.get("report_file"):
            self._view(report, lambda: self._write_report(known["report_file"], report))
        if self._monitored and known.get("metrics_file"):
            self._view(report, lambda: self._write_metrics(known, report))
        if self._pings():
            self._view(report, lambda: self._ping(known, report))
        self.output.deadline = self._deadline
        self.output.end(report)

    def _view(self, report: Report, show: Callable[[], None]) -> None:
        try:
            show()
        except Exception as error:  # noqa: BLE001 - the trigger is what the status is about
            problem = f"the result could not be passed on: a bug in crypto-trigger ({type(error).__name__})"
            self._warn(problem, report)

    def _write_report(self, path: str, report: Report) -> None:
        from crypto_trigger.reporting.report_file import write_report

        if problem := write_report(path, self.output.json(report), self.output.seconds_left):
            self._warn(problem, report)

    def _write_metrics(self, known: Mapping[str, Any], report: Report) -> None:
        from crypto_trigger.reporting.metrics import write_metrics

        if problem := write_metrics(known["metrics_file"], report, known, self.output.seconds_left):
            self._warn(problem, report)

    def _ping(self, known: Mapping[str, Any], report: Report) -> None:
        from crypto_trigger.reporting.ping import ping_of, send

        ping = ping_of(known, report, self.output.json(report))
        if ping is None:
            return
        pinged = send(ping, self._ping_seconds())
        if pinged.ok:
            self.output.detail(pinged.said)
        else:
            self._warn(pinged.said, report)

    def _warn(self, problem: str, report: Report) -> None:
        """Warn that a view has failed. The warning may be all that is read of a run whose answer nobody keeps."""
        self.output.warn(f"{problem}; the outcome is still {report.outcome} (status {report.status})")

    def _ping_seconds(self) -> float:
        """Return how long the ping may take from now on, in seconds.

        That is at least what was kept for it, because the time of the attempts does not include the loading of their
        code; and no more after a signal, because the process may soon be killed.
        """
        if self._deadline is None:
            return _LONGEST_KEPT
        least = max(LEAST, self.kept)
        return least if signals.came() else max(least, self._deadline - time.monotonic())


def _papers(known: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with certificates and seeds beside the settings that are wrong: all is told in one run."""
    from crypto_trigger.connection.credentials import problems_of
    from crypto_trigger.settings.table import SETTINGS, Settings

    return problems_of(Settings({**{row.attribute: None for row in SETTINGS}, **known}))


def limits_of(settings: Settings, spent: float = 0.0, kept: float = 0.0) -> Limits:
    """Return the limits of attempts from the settings, `spent` seconds after the deadline began to count.

    The attempts end `kept` seconds before the deadline of the whole run.
    """
    from crypto_trigger.deadline.retry import Limits

    return Limits(
        settings.give_up_after.total_seconds() - kept,
        settings.backoff_base.total_seconds(),
        settings.backoff_max.total_seconds(),
        spent,
    )
