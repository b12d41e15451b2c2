"""Whatever happens, `check` ends in time with a status from 0 to 3, and its answer is where it was asked for."""

import json
import os
import signal
import stat
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.plugin_answers import labels, line, metrics
from support.processes import HANGS, PROGRAM, Process, beginning_with
from support.scripted import Scripted, full_backlog
from support.streams import add_stream, put
from support.timestamps import untimed

# The deadline of these runs, in seconds, what everything may take beyond it, and what starting an interpreter may take.
DEADLINE, BEYOND, START = 1.0, 1.0, 8.0
SHORT = ("--give-up-after", "1s")


@pytest.fixture
def streamed(place):
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject)
    return place


# The output file.


@pytest.mark.parametrize("chosen", ["nagios", "json", "prometheus"])
def test_the_output_file_is_replaced_whole_and_can_be_read_by_all(run, streamed, chosen, tmp_path):
    path = tmp_path / "check.prom"
    path.write_text("old")
    path.chmod(0o600)
    before = path.stat().st_ino
    mask = os.umask(0o077)
    try:
        answer = run("check", "--format", chosen, "--output-file", path)
    finally:
        os.umask(mask)
    assert answer == (0, "", "")
    written = path.read_text()
    match chosen:
        case "nagios":
            assert line(written).status == "OK"
        case "json":
            assert json.loads(written)["status"] == "OK"
        case _:
            assert metrics(written)["check_status"] == 0
            assert labels(written)[0] == {"stream": streamed.stream, "subject": streamed.subject}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.stat().st_ino != before
    assert list(tmp_path.glob("*check*")) == [path]


@pytest.mark.usefixtures("streamed")
def test_a_symbolic_link_stays_and_the_file_it_leads_to_is_replaced(run, tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.prom"
    link.symlink_to(tmp_path / "real" / "check.prom")
    assert run("check", "--output-file", link).status == 0
    assert link.is_symlink()
    assert line((tmp_path / "real" / "check.prom").read_text()).status == "OK"


@pytest.mark.usefixtures("streamed")
def test_a_variable_and_the_home_directory_in_the_path_are_expanded(run, monkeypatch, tmp_path):
    monkeypatch.setenv("FOLDER", str(tmp_path))
    assert run("check", "--output-file", "$FOLDER/check.txt").status == 0
    assert line((tmp_path / "check.txt").read_text()).status == "OK"


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing/check.prom", "no such file or directory"),
        (".", "it is not a regular file"),
        ("fifo", "it is not a regular file"),
        ("/dev/full", "it is not a regular file"),
        ("/proc/self/check.prom", "no such file or directory"),
        ("x" * 300, "file name too long"),
        ("", "is empty"),
    ],
)
def test_an_output_file_that_cannot_be_written_is_unknown(run, path, why):
    os.mkfifo("fifo")
    answer = run("check", "--output-file", path)
    assert (answer.status, answer.out) == (3, "")
    assert answer.err.startswith("crypto-trigger: --output-file '")
    assert answer.err.endswith(f"' cannot be written: {why}\n")
    assert list(Path().iterdir()) == [Path("fifo")]


@pytest.mark.parametrize(
    "argv", [("--bogus",), ("--every", "x"), ("-s", "nats://127.0.0.1:1", "--give-up-after", "1s")]
)
def test_a_failure_is_written_to_the_file_and_said_on_stderr(run, argv, tmp_path):
    """So that a collector does not go on to report the result of an earlier check."""
    path = tmp_path / "check.prom"
    answer = run("check", *argv, "--format=prometheus", f"--output-file={path}")
    found = metrics(path.read_text())
    assert (set(found), found["check_status"]) == ({"check_status", "check_timestamp_seconds"}, answer.status)
    assert answer.status == (2 if "-s" in argv else 3)
    assert answer.out == ""
    assert {"--bogus": "No such option: --bogus", "--every": "crypto-trigger: CRYPTO_TRIGGER_EVERY 'x'"}.get(
        argv[0], "connection refused"
    ) in answer.err


# Quiet, verbose, and a stdout that takes nothing.


def test_quiet_prints_nothing_and_verbose_tells_on_stderr(run, streamed):
    assert run("check", "-q") == (0, "", "")
    verbose = run("check", "-v")
    assert (verbose.status, line(verbose.out).status) == (0, "OK")
    assert untimed(verbose.err) == f"crypto-trigger: {streamed.url} answered\n"
    failed = run("check", "-q", "--every", "x")
    assert (failed.status, failed.out) == (3, "")
    assert "CRYPTO_TRIGGER_EVERY 'x'" in failed.err


@contextmanager
def checking(*argv, **streams):
    """A check in a process of its own, and how many seconds it took."""
    since = time.monotonic()
    with subprocess.Popen([*PROGRAM, "check", *argv], stdin=subprocess.DEVNULL, **streams) as process:
        yield process
        process.wait(HANGS)
    assert time.monotonic() - since < DEADLINE + BEYOND + START


@pytest.mark.usefixtures("streamed")
def test_a_full_disk_or_a_closed_pipe_does_not_change_the_status():
    with Path("/dev/full").open("wb") as full, checking(stdout=full) as process:
        pass
    assert process.returncode == 0
    reading, writing = os.pipe()
    os.close(reading)
    with checking(stdout=writing) as process:
        os.close(writing)
    assert process.returncode == 0


@pytest.mark.usefixtures("streamed")
def test_a_pipe_that_nobody_reads_does_not_outlast_the_deadline():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    with checking(*SHORT, stdout=writing, stderr=writing) as process:
        pass
    assert process.returncode == 0
    os.close(reading)
    os.close(writing)


# The deadline, signals, bugs.


def silent(talk):
    talk.listen()


def greets(talk):
    talk.welcome()
    talk.listen()


@pytest.mark.parametrize("script", [silent, greets])
def test_a_server_that_says_nothing_is_critical_by_the_deadline(run, script):
    with Scripted(script) as server:
        began = time.monotonic()
        answer = run("check", "-s", server.url, *SHORT)
        seconds = time.monotonic() - began
    assert (answer.status, line(answer.out).status) == (2, "CRITICAL")
    assert seconds < DEADLINE + BEYOND


def test_a_server_that_takes_no_connection_is_critical_by_the_deadline(run):
    with full_backlog() as url:
        began = time.monotonic()
        answer = run("check", "-s", url, *SHORT)
        assert time.monotonic() - began < DEADLINE + BEYOND
    assert answer.status == 2


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_unknown(signum, tmp_path):
    with Scripted(greets) as server:
        process = Process("check", "--output-file", tmp_path / "check.txt", NATS_URL=server.url)
        server.talk().wait_for(b"STREAM.INFO")
        process.signal(signum)
        ended = process.end()
    assert ended.status == 3
    assert ended.seconds < BEYOND
    assert line((tmp_path / "check.txt").read_text()).text.startswith(f"interrupted by {signum.name} ")


@pytest.mark.parametrize(
    "module", ["crypto_trigger.commands.entry", "crypto_trigger.commands.check", "crypto_trigger.settings.load", "nats"]
)
def test_a_signal_during_an_import_is_unknown(module, tmp_path):
    code = (
        "import os, signal, sys\n"
        "class Gate:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Gate())\n"
    )
    ended = Process("check", NATS_URL="nats://127.0.0.1:1", **beginning_with(tmp_path, code)).end()
    assert ended.status == 3
    assert not ended.out or line(ended.out).status == "UNKNOWN"
    assert "Traceback" not in ended.err


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize(
    ("place_of_bug", "says"),
    [
        (
            "crypto_trigger.monitoring.verdict.entries",
            "TRIGGER UNKNOWN - broken; this is a bug in crypto-trigger; please report it\n",
        ),
        ("crypto_trigger.commands.check.nagios", ""),
    ],
)
def test_a_bug_is_unknown_and_leaves_its_traceback_on_stderr(run, monkeypatch, place_of_bug, says):
    def broken(*_):
        raise LookupError("broken")

    monkeypatch.setattr(place_of_bug, broken)
    answer = run("check")
    assert (answer.status, answer.out) == (3, says)
    assert "LookupError: broken" in answer.err


@pytest.mark.usefixtures("streamed")
@pytest.mark.parametrize("argv", [("--bogus",), ("--every", "x"), ("--missed-warn", "9"), ()])
def test_a_json_log_has_one_object_a_line_and_none_if_nothing_failed(run, monkeypatch, argv):
    monkeypatch.setenv("CRYPTO_TRIGGER_LOG_FORMAT", "json")
    answer = run("check", *argv)
    assert answer.status == (3 if argv else 0)
    told = [json.loads(row) for row in answer.err.splitlines()]
    assert [row["message"] for row in told] == ([line(answer.out).text] if argv else [])


def test_a_program_that_cannot_be_loaded_is_unknown(tmp_path):
    code = (
        "import sys\n"
        "class Broken:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'crypto_trigger.commands.check':\n"
        "            raise MemoryError('no room')\n"
        "sys.meta_path.insert(0, Broken())\n"
    )
    ended = Process("check", **beginning_with(tmp_path, code)).end()
    assert (ended.status, ended.out) == (3, "")
    assert "MemoryError: no room" in ended.err


def test_help_is_help(run):
    answer = run("check", "--help")
    assert answer.status == 0
    assert "Usage: crypto-trigger check [OPTIONS]" in answer.out
    example = answer.out.rpartition("Example:\n  crypto-trigger ")[2].split()
    assert run(*example, "--help").status == 0
