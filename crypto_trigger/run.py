"""One run of one command: what is known of it so far, and the one place where its end is reported."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from crypto_trigger import signals
from crypto_trigger.errors import ConfigError, Outcome, Status, TriggerError
from crypto_trigger.output import Output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crypto_trigger.draft import Draft
    from crypto_trigger.report import Report
    from crypto_trigger.settings import Settings
    from crypto_trigger.trigger import Receipt


class Run:
    """One run of one command: what is known so far, so that its end can be reported in full, however it ends.

    `reading` is the time it took to read the settings, in seconds. The deadline includes it. `status` is the exit
    status of a run that ends without an error.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.status = int(Status.OK)
        self.output = Output()
        self.settings: Settings | None = None
        self.draft: Draft | None = None
        self.reading = 0.0
        self.report_file: str | None = None
        self._reports = False

    def begin(
        self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False, reports: bool = False
    ) -> Output:
        """Set the form of the output, and whether this command writes a report file. Return the output."""
        self.output.as_json, self.output.quiet, self.output.verbose = as_json, quiet, verbose
        self._reports = reports
        return self.output

    def load(self, env_file: str | None, **flags: str | None) -> Settings:
        """Load the settings and print their warnings. Raises ConfigError."""
        from crypto_trigger.settings import load

        began = time.monotonic()
        try:
            settings = load(flags, env_file, os.environ, began)
        except ConfigError as error:
            self._take(error.known)
            raise
        self.settings = settings
        self.reading = time.monotonic() - began
        self._take(settings._asdict())
        self.output.keep_secret(settings.secrets)
        for warning in settings.warnings:
            self.output.warn(warning)
        return settings

    def draft_trigger(self, settings: Settings, *, force: bool, offline: bool) -> Draft:
        """Return the draft of this run's trigger. Raises ConfigError as `Draft` does."""
        import socket
        from datetime import UTC, datetime

        from crypto_trigger.draft import Draft

        self.draft = Draft(settings, datetime.now(UTC), socket.gethostname(), force=force, offline=offline)
        return self.draft

    def succeed(self, receipt: Receipt) -> None:
        """Report a successful publish."""
        self._show(self._report(receipt.outcome, Status.OK).with_receipt(receipt))

    def dry_run(self, settings: Settings) -> None:
        """Report what a publish would send, and to which servers."""
        self._show(self._report(Outcome.DRY_RUN, Status.OK)._replace(servers=tuple(map(str, settings.servers))))

    def fail(self, error: BaseException) -> int:
        """Report a failure and return its exit status."""
        # A signal during the report would end it with a traceback.
        signals.settle()
        from crypto_trigger.report import verdict

        outcome, status = verdict(error)
        if not isinstance(error, TriggerError):
            self.output.traceback(error)
        self._show(self._report(outcome, status).with_error(error))
        return status

    def refuse(self, error: TriggerError, report_file: str | None) -> int:
        """Write the report file for a wrong command line, and return the exit status.

        The parser has printed the error on stderr.
        """
        if report_file:
            from crypto_trigger.report import verdict

            self._write(self._report(*verdict(error)).with_error(error), report_file)
        return error.exit_status

    def _take(self, known: Mapping[str, Any]) -> None:
        """Take the report file and the deadline from the settings, as far as they are known."""
        self.report_file = known.get("report_file") if self._reports else None
        if give_up_after := known.get("give_up_after"):
            self.output.deadline = self.started + give_up_after.total_seconds()

    def _report(self, outcome: Outcome, status: int) -> Report:
        """Return the report of a run that ends now."""
        from crypto_trigger.report import Report

        report = Report.now(outcome, status, time.monotonic() - self.started)
        if self.settings:
            report = report.with_settings(self.settings)
        if self.draft:
            report = report.with_trigger(self.draft.trigger).with_warnings(self.draft.warnings)
        return report

    def _show(self, report: Report) -> None:
        """Show the report in each of its views. A new view is one more call here."""
        for detail in self.draft.details if self.draft else ():
            self.output.detail(detail)
        self.output.report(report)
        if self.report_file:
            self._write(report, self.report_file)

    def _write(self, report: Report, path: str) -> None:
        from crypto_trigger.notify import write_report

        if problem := write_report(path, self.output.json(report), self.output.seconds_left):
            self.output.warn(problem)
