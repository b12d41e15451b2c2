"""The metrics file under many writers: always whole, and the newest success survives every failure."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from crypto_trigger.deadline import files
from crypto_trigger.errors import Outcome
from crypto_trigger.reporting.metrics import write_metrics
from crypto_trigger.reporting.report import Report
from crypto_trigger.settings.load import load

KNOWN = vars(load({}, "/dev/null", {}))
FILE = "trigger.prom"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def report(second, status=0):
    outcome = Outcome.UNAVAILABLE if status else Outcome.PUBLISHED
    return Report(outcome, status, NOON + timedelta(seconds=second), "0", 1)


def read():
    families = text_string_to_metric_families(Path(FILE).read_text())
    return {family.name.removeprefix("crypto_trigger_"): family.samples[0].value for family in families}


def test_a_reader_never_sees_a_part_of_it():
    assert write_metrics(FILE, report(0), KNOWN, 1.0) == ""
    whole, seen, problems = set(read()), [], []

    def write(number):
        problems.extend(write_metrics(FILE, report(number, status=69 * (n % 2)), KNOWN, 1.0) for n in range(20))

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        seen.append(set(read()))
    assert problems == [""] * 80
    assert seen
    assert all(found == whole for found in seen)
    assert [path.name for path in Path().iterdir()] == [FILE]


def test_a_failure_at_the_same_time_does_not_take_back_a_success(monkeypatch):
    """A run that failed reads, then another run's success is due, then the first one writes: the success waits."""
    write_metrics(FILE, report(0), KNOWN, 1.0)
    success = threading.Thread(target=write_metrics, args=(FILE, report(60), KNOWN, 1.0))
    real = files.replace

    def replace(*args):
        if not success.ident:
            success.start()
            success.join(0.2)  # it waits for the lock, so that this runs out
        real(*args)

    monkeypatch.setattr(files, "replace", replace)
    write_metrics(FILE, report(30, status=69), KNOWN, 1.0)
    success.join()
    assert read()["last_success_timestamp_seconds"] == (NOON + timedelta(seconds=60)).timestamp()
    assert read()["last_run_exit_status"] == 0
