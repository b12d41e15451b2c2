"""The performance data of `check`, as Monitoring::Plugin reads them: its thresholds alert when ours do."""

from datetime import UTC, datetime, timedelta

import pytest
from support.programs import perl
from support.shell import do

from crypto_trigger.monitoring.coverage import Entry, State
from crypto_trigger.monitoring.plugin import Answer, nagios
from crypto_trigger.monitoring.verdict import Backlog, CheckResult, Finding, Level, Thresholds
from crypto_trigger.slots.trigger import Slot, Stored

NOW = datetime(2026, 11, 23, 18, 4, 15, tzinfo=UTC)
EVERY = timedelta(minutes=15)
LIMITS = Thresholds(1, 3, timedelta(minutes=5), EVERY)
# A line for each value: its label, the value, and the status that its thresholds give it.
READ = """
for my $item (Monitoring::Plugin::Performance->parse_perfstring($ARGV[0])) {
    print join("\\t", $item->label, $item->value, $item->threshold->get_status($item->value)), "\\n";
}
"""


@pytest.fixture
def read():
    """Read performance data; the value and the status of each, by its label."""
    path = perl("Monitoring::Plugin::Performance")

    def call(answer):
        line, data = nagios(answer).split(" | ")
        assert line.startswith("TRIGGER ")
        ended = do(path, "-MMonitoring::Plugin::Performance", "-e", READ, data)
        assert (ended.status, ended.err) == (0, "")
        found = (line.split("\t") for line in ended.out.splitlines())
        return {label: (float(value), int(status)) for label, value, status in found}

    return call


def answer(states=(), backlogs=()):
    slots = [Slot(NOW - number * EVERY, EVERY) for number in range(len(states))]
    entries = tuple(Entry(slot, state) for slot, state in zip(slots, states, strict=True))
    result = CheckResult((), NOW, timedelta(0), entries, None, tuple(backlogs), LIMITS)
    return Answer(Level.OK, (Finding(Level.OK, "well"),), "s", "t", result)


@pytest.mark.parametrize("count", range(5))
def test_so_many_missed_slots_are_as_bad_to_it_as_to_us(count, read):
    assert read(answer([State.MISSED] * count))["missed"] == (count, LIMITS.of_missed(count))


@pytest.mark.parametrize("seconds", [0, 299, 300, 301, 900, 901])
def test_an_old_trigger_is_as_bad_to_it_as_to_us(seconds, read):
    age = timedelta(seconds=seconds)
    backlog = Backlog("api server", Level.OK, 1, Stored(7, NOW - age))
    assert read(answer(backlogs=[backlog]))["api server_age"] == (seconds, LIMITS.of_age(age))


def test_what_is_not_known_is_no_number_to_it_and_hides_nothing_else(read):
    assert set(read(answer([State.UNKNOWN] * 3))) == {"skew"}
