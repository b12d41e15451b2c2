"""The report file: what it holds after any end of a run, and what is never done to a file that is not a report."""

import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.processes import PROGRAM
from support.streams import stored

from crypto_trigger import __version__

SLOT = ("--scheduled-at", "2026-11-23T12:00:00Z")
PREVIOUS = '{"outcome": "published"}\n' * 100


@pytest.fixture
def ready(run, place):
    """The test's own place, with its stream set up."""
    assert run("setup").status == 0
    return place


def shell(line, *argv, **environ):
    """Run a shell line whose `"$@"` is the program; its status, stdout and stderr."""
    done = subprocess.run(
        ["sh", "-c", line, "sh", *PROGRAM, *argv],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


# A command line that is wrong.


@pytest.mark.parametrize(
    "argv",
    [
        ("publish", "--no-such-option", "--report-file", "report.json"),
        ("publish", "--report-file=report.json", "--no-such-option"),
        ("publish", "--report-file", "other.json", "--report-file", "report.json", "surplus"),
        ("publish", "--report-file=other.json", "--report-file", "report.json", "surplus"),
        ("publish", "--report-file", "report.json", "--every"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_reported_in_the_file_that_it_names(argv, run):
    told_in("report.json", run, *argv)


@pytest.mark.parametrize("argv", [("publish", "--no-such-option"), ("publish", "surplus")], ids=" ".join)
def test_a_wrong_command_line_is_reported_in_the_file_that_the_environment_names(argv, run, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_REPORT_FILE", "report.json")
    told_in("report.json", run, *argv)


def told_in(path, run, *argv):
    Path(path).write_text(PREVIOUS)
    result = run(*argv)
    report = json.loads(Path(path).read_text())
    assert (result.status, result.out) == (2, "")
    assert report.pop("elapsed_ms") >= 0
    assert abs(datetime.now(UTC) - datetime.fromisoformat(report.pop("time"))) < timedelta(seconds=5)
    error = report.pop("error")
    assert report == {"outcome": "config", "status": 2, "version": __version__}
    assert error["kind"] == "usage"
    assert error["message"] in result.err


@pytest.mark.parametrize("argv", [("setup", "--no-such-option"), ("config", "surplus"), ()], ids=" ".join)
def test_another_command_that_is_wrong_leaves_the_file_of_the_environment_alone(argv, run, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_REPORT_FILE", "report.json")
    Path("report.json").write_text(PREVIOUS)
    assert run(*argv).status == 2
    assert Path("report.json").read_text() == PREVIOUS


def test_help_is_no_run_that_is_reported(run):
    Path("report.json").write_text(PREVIOUS)
    assert run("publish", "--report-file", "report.json", "--help").status == 0
    assert Path("report.json").read_text() == PREVIOUS


# Descriptors of our own.


@pytest.mark.parametrize(
    "path",
    ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1", "link", "folder/1", "/dev/../dev/stdout"],
)
def test_a_log_that_stdout_is_appended_to_is_never_truncated(path, ready):
    Path("link").symlink_to("hop")
    Path("hop").symlink_to("/dev/stdout")
    Path("folder").symlink_to("/proc/self/fd")
    Path("log").write_text("what was there before\n")
    status, _, err = shell('"$@" >> log', "publish", *SLOT, "--report-file", path)
    assert len(stored(ready.url, ready.stream)) == 1
    assert (status, err) == (0, "")
    before, answer, report = Path("log").read_text().splitlines()
    assert before == "what was there before"
    assert answer.startswith("published ")
    assert json.loads(report)["outcome"] == "published"


def test_a_log_that_is_named_as_report_file_is_not_truncated(ready):
    log = Path("log")
    log.write_text("before\n")
    status, _, _ = shell('"$@" --report-file log >> log', "publish", *SLOT, NATS_URL=ready.url)
    lines = log.read_text().splitlines()
    assert status == 0
    assert lines[0] == "before"
    assert lines[1].startswith("published ")
    assert json.loads(lines[2])["outcome"] == "published"


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("path", ["/dev/fd/7", "/proc/self/fd/7"])
def test_another_descriptor_is_appended_to_as_well(path):
    Path("log").write_text("what was there before\n")
    status, out, err = shell('"$@" 7>> log', "publish", "-q", "--report-file", path)
    assert (status, out, err) == (0, "", "")
    before, report = Path("log").read_text().splitlines()
    assert before == "what was there before"
    assert json.loads(report)["outcome"] == "published"


@pytest.mark.usefixtures("ready")
def test_a_descriptor_that_is_not_open_is_one_warning():
    status, _, err = shell('"$@"', "publish", "--report-file", "/dev/fd/77")
    assert status == 0
    assert re.fullmatch(
        r"crypto-trigger: warning: the report could not be written to /dev/fd/77: bad file descriptor; "
        r"the outcome is still published \(status 0\)\n",
        err,
    )


@pytest.mark.usefixtures("ready")
def test_stdout_as_report_file_may_be_a_pipe():
    status, out, err = shell('"$@" | cat', "publish", "-q", "--report-file", "/dev/stdout")
    assert (status, err) == (0, "")
    assert json.loads(out)["outcome"] == "published"


@pytest.mark.usefixtures("ready")
def test_a_file_whose_name_is_a_number_is_a_file(run):
    Path("1").write_text(PREVIOUS)
    assert run("publish", "--report-file", "1").status == 0
    assert json.loads(Path("1").read_text())["outcome"] == "published"


# Anything else.


@pytest.mark.usefixtures("ready")
def test_a_link_to_a_file_keeps_the_link_and_replaces_what_the_file_held(run):
    Path("there").write_text(PREVIOUS)
    Path("link").symlink_to("there")
    assert run("publish", "--report-file", "link").status == 0
    assert Path("link").is_symlink()
    assert json.loads(Path("there").read_text())["outcome"] == "published"


@pytest.mark.usefixtures("ready")
def test_links_in_a_circle_are_one_warning(run):
    Path("one").symlink_to("other")
    Path("other").symlink_to("one")
    result = run("publish", "--report-file", "one")
    assert result.status == 0
    assert result.err.startswith("crypto-trigger: warning: the report could not be written to one: ")
