"""Runs that end before their settings are read, or with an impossible clock: reported where the others are."""

import json
import os
import signal
from pathlib import Path

import pytest
from support.monitors import FAILURE, TOKEN, Monitor
from support.processes import PROGRAM, Process, beginning_with, execute
from support.programs import program
from support.streams import stored

PREVIOUS = '{"outcome": "published"}\n' * 100


def told(path="report.json"):
    return json.loads(Path(path).read_text())


# A wrong command line.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (".env", ()),
        ("other.env", ("--env-file", "other.env")),
        ("other.env", ("--env-file=other.env",)),
        ("other.env", ("--env-file=other.env", "--env-file", "/dev/null")),
        ("other.env", ("--env-file", "/dev/null", "--env-file", "other.env")),
    ],
    ids=["working-directory", "option", "option-with-equals", "first-of-two", "second-of-two"],
)
def test_a_wrong_command_line_is_reported_in_the_file_that_the_env_file_names(name, options, run):
    Path("report.json").write_text(PREVIOUS)
    Path(name).write_text("CRYPTO_TRIGGER_REPORT_FILE=report.json\n")
    assert run("publish", *options, "--no-such-option").status == 2
    assert (told()["status"], told()["error"]["kind"]) == (2, "usage")


def test_it_is_reported_though_other_settings_are_wrong_too(run):
    Path("report.json").write_text(PREVIOUS)
    Path(".env").write_text("CRYPTO_TRIGGER_REPORT_FILE=report.json\nCRYPTO_TRIGGER_EVERY=banana\nbad line\n")
    assert run("publish", "--no-such-option").status == 2
    assert told()["status"] == 2


@pytest.mark.parametrize("content", [b"\xff", b"CRYPTO_TRIGGER_REPORT_FILE\n", b""])
def test_an_env_file_that_does_not_say_where_changes_nothing(content, run):
    Path(".env").write_bytes(content)
    result = run("publish", "--no-such-option")
    assert (result.status, result.out) == (2, "")
    assert "Traceback" not in result.err
    assert "warning" not in result.err


def test_a_path_of_a_wrong_command_line_is_expanded_as_ever(run):
    assert run("publish", "--report-file", "$HOME/there.json", "--no-such-option").status == 2
    assert told(Path.home() / "there.json")["status"] == 2


def test_an_env_file_that_nobody_writes_does_not_hold_a_wrong_command_line(run):
    os.mkfifo(".env")
    result = run("publish", "--report-file", "report.json", "--no-such-option")
    assert result.status == 2
    assert told()["elapsed_ms"] < 2000


def test_a_password_in_a_wrong_command_line_is_masked_in_its_report(run, monkeypatch):
    monkeypatch.setenv("NATS_TOKEN", "topsecret")
    assert run("publish", "--report-file", "report.json", "--topsecret").status == 2
    assert "topsecret" not in Path("report.json").read_text()


# A signal.


def killed_at(module, folder, signum):
    """A child process that gets a signal where it first imports a module."""
    return beginning_with(
        folder,
        "import os, signal, sys\n"
        "class Killer:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        f"            signal.raise_signal({int(signum)})\n"
        "sys.meta_path.insert(0, Killer())\n",
    )


@pytest.mark.parametrize(
    ("named", "module", "signum"),
    [
        ("flag", "crypto_trigger.settings.load", signal.SIGTERM),
        ("environment", "crypto_trigger.settings.load", signal.SIGINT),
        ("env file", "crypto_trigger.settings.load", signal.SIGTERM),
        ("env file", "crypto_trigger.settings.env_file", signal.SIGINT),
        ("env file", "crypto_trigger.delivery.draft", signal.SIGTERM),
    ],
)
def test_a_signal_before_the_settings_are_read_is_reported(named, module, signum, tmp_path):
    Path("report.json").write_text(PREVIOUS)
    Path(".env").write_text("CRYPTO_TRIGGER_REPORT_FILE=report.json\n" if named == "env file" else "")
    environ = {"CRYPTO_TRIGGER_REPORT_FILE": "report.json"} if named == "environment" else {}
    options = ("--report-file", "report.json") if named == "flag" else ()
    with Monitor() as monitor:
        ended = execute("publish", *options, **killed_at(module, tmp_path, signum), **environ, **monitor.environ)
    assert ended.status == 128 + signum
    assert (told()["outcome"], told()["status"]) == ("interrupted", ended.status)
    assert monitor.told == [FAILURE]
    assert monitor.asked[0].path == f"/{TOKEN}/{ended.status}"
    assert ended.err.startswith("crypto-trigger: interrupted before anything was sent")
    assert ended.err.count("\n") == 1


def test_a_signal_while_an_env_file_is_awaited_ends_the_run():
    os.mkfifo(".env")
    process = Process("publish", "--report-file", "report.json")
    writer = os.open(".env", os.O_WRONLY)  # returns once the program reads
    process.signal(signal.SIGTERM)
    ended = process.end()
    os.close(writer)
    assert ended.status == 143
    assert told()["status"] == 143
    assert ended.seconds < 3


# A clock.

WRONG_CLOCK = (
    "crypto-trigger: the clock of this host is beyond the year 2262, where Python cannot count; set it; "
    "nothing was published\n"
)


@pytest.mark.parametrize("year", [2263, 9998])
def test_a_clock_beyond_what_python_counts_is_said_in_one_line(year, run, place):
    run("setup")
    command = (program("faketime"), f"{year}-01-01 00:00:00", *PROGRAM)
    options = ("--report-file", "report.json", "--metrics-file", "x.prom")
    ended = Process("publish", *options, command=command, FAKETIME_DONT_FAKE_MONOTONIC="1").end()
    assert stored(place.url, place.stream) == []
    assert (ended.status, ended.out, ended.err) == (78, "", WRONG_CLOCK)
    assert told()["time"] == "9999-12-31T23:59:59Z"


def test_a_wrong_command_line_with_such_a_clock_is_one():
    command = (program("faketime"), "2263-01-01 00:00:00", *PROGRAM)
    ended = Process("publish", "--no-such-option", command=command, FAKETIME_DONT_FAKE_MONOTONIC="1").end()
    assert (ended.status, ended.out) == (2, "")
    assert "Traceback" not in ended.err
