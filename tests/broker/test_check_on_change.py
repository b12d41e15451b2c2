"""`check --on-change`: it prints what is new, and nothing else; the status and the output file are as ever."""

import json
import os
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.plugin_answers import line, metrics
from support.processes import HANGS, PROGRAM, Process
from support.scripted import Scripted
from support.streams import add_stream, put
from support.timestamps import untimed

NOWHERE = ("-s", "nats://127.0.0.1:1", "--give-up-after", "300ms")
WRONG = ("--since", "soon")
# Command lines with their results.
RESULTS = {(): 0, ("--consumer", "nobody"): 2, NOWHERE: 2, WRONG: 3, ("--bogus",): 3, ("--every", "x"): 3}
# By their status.
NAMES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")


@pytest.fixture
def place(place):
    """A stream whose present slot has its trigger."""
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject)
    return place


@pytest.fixture
def file(tmp_path):
    return tmp_path / "last"


@pytest.fixture
def check(run, place, file):  # noqa: ARG001 - the environment names the place
    return lambda *argv: run("check", "--on-change", file, *argv)


def ago(file, **length):
    """The file says that its result was printed so long ago."""
    name = file.read_text().split()[0]
    moment = datetime.now(UTC) - timedelta(**length)
    file.write_text(f"{name} {moment:%Y-%m-%dT%H:%M:%SZ}\n")


def test_an_incident_is_printed_once_and_its_end_once(check, file):
    printed = []
    for argv in ((), (), ("--consumer", "nobody"), ("--consumer", "nobody"), NOWHERE, (), ()):
        answer = check(*argv)
        assert answer.status == RESULTS[argv]
        assert answer.err == ""
        printed.append(answer.out and line(answer.out).status)
        assert file.read_text().split()[0] == NAMES[answer.status]
    assert printed == ["", "", "CRITICAL", "", "", "OK", ""]


@pytest.mark.parametrize("argv", [argv for argv, status in RESULTS.items() if status], ids=" ".join)
@pytest.mark.parametrize("form", ["nagios", "json", "prometheus"])
def test_every_failure_is_printed_once_in_every_format(run, place, file, form, argv):  # noqa: ARG001
    usual = run("check", "--format", form, *argv)
    first, second = (run("check", "--format", form, "--on-change", file, *argv) for _ in range(2))
    assert usual.status == first.status == second.status == RESULTS[argv]
    assert (second.out, second.err) == ("", "")
    for as_ever, now in zip(usual[1:], first[1:], strict=True):
        assert re.sub(r"\d+", "0", now) == re.sub(r"\d+", "0", as_ever)
    assert first.out


def test_a_result_that_is_not_ok_is_printed_again_after_a_day(check, file):
    assert check("--consumer", "nobody").out
    ago(file, hours=23, minutes=59)
    assert check("--consumer", "nobody").out == ""
    ago(file, hours=24)
    assert line(check("--consumer", "nobody").out).status == "CRITICAL"
    assert check("--consumer", "nobody").out == ""


def test_ok_is_not_printed_again(check, file):
    assert check().out == ""
    ago(file, days=400)
    assert check().out == ""


@pytest.mark.parametrize("content", ["", "garbage", "OK", "\0" * 100])
def test_a_damaged_file_hides_nothing(check, file, content):
    for argv, status in (((), "OK"), (("--consumer", "nobody"), "CRITICAL")):
        file.write_text(content)
        assert line(check(*argv).out).status == status
        assert check(*argv).out == ""


# A file that cannot be written hides nothing, whatever it says.


@pytest.mark.parametrize("argv", [(), ("--consumer", "nobody"), WRONG])
@pytest.mark.parametrize("path", ["missing/last", ".", "", "/dev/null", "/proc/self/last"])
def test_while_the_file_cannot_be_written_every_run_prints_and_names_it(run, place, path, argv):  # noqa: ARG001
    for _ in range(2):
        answer = run("check", "--on-change", path, *argv)
        assert answer.status == RESULTS[argv]
        assert line(answer.out).status == NAMES[answer.status]
        *_, warning = answer.err.splitlines()
        assert warning.startswith(f"crypto-trigger: warning: --on-change '{path}' cannot be written: ")
        assert warning.endswith("; until it can be, every run prints its answer")


def test_a_file_that_can_no_longer_be_written_hides_nothing(check, file, monkeypatch):
    """Its content may be of an older incident."""
    assert check("--consumer", "nobody").out

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crypto_trigger.deadline.files.replace", full)
    for _ in range(2):
        answer = check("--consumer", "nobody")
        assert line(answer.out).status == "CRITICAL"
        assert f"'{file}' cannot be written: no space left on device;" in answer.err
    monkeypatch.undo()


@pytest.mark.usefixtures("place")
def test_what_nobody_could_be_told_is_told_by_the_next_run(file):
    def ended(out):
        command = [*PROGRAM, "check", "--on-change", file, "--consumer", "nobody"]
        return subprocess.run(command, stdout=out, stderr=subprocess.PIPE, timeout=HANGS, check=False)

    with Path("/dev/full").open("wb") as full:
        done = ended(full)
    assert done.returncode == 2
    assert b"no space left on device" in done.stderr
    reading, writing = os.pipe()
    os.close(reading)
    assert ended(writing).returncode == 2
    os.close(writing)
    assert not file.exists()
    assert ended(subprocess.PIPE).stdout.startswith(b"TRIGGER CRITICAL - ")
    assert ended(subprocess.PIPE).stdout == b""


# With other options.


@pytest.mark.parametrize("argv", [(), ("--consumer", "nobody"), NOWHERE, WRONG])
def test_the_output_file_is_written_by_every_run(check, tmp_path, argv):
    path = tmp_path / "check.prom"
    for number in range(2):
        path.write_text("old")
        answer = check("--format", "prometheus", "--output-file", path, *argv)
        assert metrics(path.read_text())["check_status"] == answer.status == RESULTS[argv]
        assert answer.out == ""
        # Metrics do not say why there is no result.
        assert bool(answer.err) is (number == 0 and argv in (NOWHERE, WRONG))


def test_an_output_file_that_cannot_be_written_is_unknown_and_told_once(check, file):
    for told in (True, False):
        answer = check("--output-file", "missing/check.prom")
        assert (answer.status, answer.out, bool(answer.err)) == (3, "", told)
        assert file.read_text().split()[0] == "UNKNOWN"


def test_one_file_for_the_answer_and_the_last_result_is_refused(check, file):
    for _ in range(2):
        answer = check("--output-file", file)
        assert answer.status == 3
        assert "--output-file and --on-change name one file: give each its own" in answer.err
        assert file.read_text().startswith("TRIGGER UNKNOWN - ")


def test_a_warning_is_not_printed_by_every_run(check, monkeypatch):
    """cron would mail it."""
    monkeypatch.setenv("CRYPTO_TRIGGER_EVRY", "15m")
    assert check() == (0, "", "")
    answer = check("--consumer", "nobody")
    assert "CRYPTO_TRIGGER_EVRY" in answer.err
    assert line(answer.out).status == "CRITICAL"


def test_verbose_tells_why_nothing_is_printed_and_what_it_would_have_been(check, place, file):
    check("--consumer", "nobody")
    answer = check("--consumer", "nobody", "-v")
    assert (answer.status, answer.out) == (2, "")
    answered, kept = untimed(answer.err).splitlines()
    assert answered == f"crypto-trigger: {place.url} answered"
    assert kept.startswith(f"crypto-trigger: not printed again, {file} says CRITICAL: TRIGGER CRITICAL - ")


def test_a_json_log_is_as_ever_where_something_is_new(check, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_LOG_FORMAT", "json")
    first, second = check(*WRONG), check(*WRONG)
    assert json.loads(first.err)["message"] == line(first.out).text
    assert second == (3, "", "")


def test_help_and_a_path_that_is_missing_are_as_ever(run, file):
    assert "Usage: crypto-trigger check" in run("check", "--on-change", file, "--help").out
    answer = run("check", "--on-change")
    assert (answer.status, line(answer.out).status) == (3, "UNKNOWN")
    assert answer == run("check", "--on-change")


def test_a_bug_is_printed_once_with_its_traceback(check, monkeypatch):
    def broken(*_):
        raise LookupError("broken")

    monkeypatch.setattr("crypto_trigger.monitoring.verdict.entries", broken)
    first, second = check(), check()
    assert "LookupError: broken" in first.err
    assert line(first.out).status == "UNKNOWN"
    assert second == (3, "", "")


@pytest.mark.parametrize(
    "place_of_bug", ["crypto_trigger.commands.check.nagios", "crypto_trigger.commands.state_file.read"]
)
def test_a_bug_in_the_printing_itself_hides_nothing(check, monkeypatch, place_of_bug):
    def broken(*_):
        raise LookupError("broken")

    monkeypatch.setattr(place_of_bug, broken)
    for _ in range(2):
        answer = check("--consumer", "nobody")
        assert answer.status == 3
        assert "LookupError: broken" in answer.err


@pytest.mark.usefixtures("place")
def test_a_signal_is_told_and_what_follows_as_well(run, file):
    def greets(talk):
        talk.welcome()
        talk.listen()

    with Scripted(greets) as server:
        process = Process("check", "--on-change", file, NATS_URL=server.url)
        server.talk().wait_for(b"STREAM.INFO")
        process.signal(15)
        ended = process.end()
    assert (ended.status, line(ended.out).status) == (3, "UNKNOWN")
    assert line(run("check", "--on-change", file).out).status == "OK"


def test_a_home_directory_and_a_variable_in_the_path_are_expanded(run, place, monkeypatch, tmp_path):  # noqa: ARG001
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("check", "--on-change", "~/last").status == 0
    assert (tmp_path / "last").read_text().startswith("OK ")


def test_checks_at_once_leave_a_whole_file(place, file):  # noqa: ARG001
    command = [*PROGRAM, "check", "--on-change", file]
    running = [
        subprocess.Popen([*command, *argv], stdout=subprocess.DEVNULL) for argv in ((), ("--consumer", "nobody")) * 2
    ]
    seen = set()
    began = time.monotonic()
    while any(process.poll() is None for process in running) and time.monotonic() - began < HANGS:
        if file.exists():
            seen.add(file.read_text())
    assert {process.wait() for process in running} == {0, 2}
    assert all(re.fullmatch(r"(OK|CRITICAL) [-0-9T:]+Z\n", text) for text in seen)
    assert list(file.parent.iterdir()) == [file]
