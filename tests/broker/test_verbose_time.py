"""With `-v` each line on stderr has the time, and the page shows it as it is."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from support.processes import execute
from support.shell import ROOT
from support.streams import stored

PAGE = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
STAMP = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) "


def times(err):
    """The times of all lines, each of which must have one."""
    lines = err.splitlines()
    found = [re.match(f"crypto-trigger: {STAMP}", line) for line in lines]
    assert all(found), err
    return [datetime.fromisoformat(match[1]) for match in found]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_each_line_of_a_run_has_its_time_in_utc(place, zone):
    execute("setup")
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    ended = execute("publish", "-v", TZ=zone, CRYPTO_TRIGGER_EVRY="1h")
    assert len(stored(place.url, place.stream)) == 1
    assert ended.status == 0
    found = times(ended.err)
    assert before <= found[0] <= found[-1] <= datetime.now(UTC)
    assert re.search(f"^crypto-trigger: {STAMP}warning: CRYPTO_TRIGGER_EVRY ", ended.err, re.MULTILINE)
    assert re.search(f"^crypto-trigger: {STAMP}{place.url} answered attempt 1", ended.err, re.MULTILINE)


def test_without_v_no_line_has_a_time():
    ended = execute("publish", CRYPTO_TRIGGER_EVRY="1h", CRYPTO_TRIGGER_TIMEOUT="soon")
    assert ended.status == 78
    assert ended.err.startswith("crypto-trigger: CRYPTO_TRIGGER_TIMEOUT ")


def test_the_page_shows_the_lines_as_they_are():
    (command, *shown) = re.search(r"```console\n\$ crypto-trigger (.*?)```", PAGE, re.DOTALL)[1].splitlines()
    ended = execute(*command.split(), CRYPTO_TRIGGER_SUBJECT="crypto.update")
    assert ended.status == 69
    assert times(ended.err) == sorted(times(ended.err))
    lines = [alike(line) for line in ended.err.splitlines()]
    assert [lines[0], lines[-1]] == [alike(line) for line in shown]


def alike(line):
    """A line without its times and numbers of attempts and seconds."""
    line = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z", r"TIME\1", line)
    return re.sub(r"TIME\.\d{3}", "TIME.MS", re.sub(r"\d+\.\d+s|\d+s|\d+ attempts?", "N", line))
