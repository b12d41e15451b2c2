"""JSON on stderr: each line is one object, and the last one says what the run came to."""

import json
import os
import signal
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.patience import PATIENCE
from support.ports import free_port
from support.processes import PROGRAM, Process
from support.programs import program
from support.scripted import Scripted
from support.streams import add_stream, stored
from support.terminals import on_terminal

from crypto_trigger.delivery import deliver as delivery

NOWHERE = ("--server", "nats://127.0.0.1:1", "--give-up-after", "300ms")
SLOT = ("--scheduled-at", "2026-11-23T12:00:00Z")
HEAD = ["time", "level", "event", "message"]


@pytest.fixture(autouse=True)
def _json(monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_LOG_FORMAT", "json")


@pytest.fixture
def ready(run, place):
    """The test's own place, with its stream set up."""
    assert run("setup").status == 0
    return place


def logged(err):
    """The objects on the lines of stderr; each has the four keys first."""
    assert err == "" or err.endswith("\n")
    lines = [json.loads(line) for line in err.splitlines()]
    for line in lines:
        assert list(line)[:4] == HEAD
        assert line["level"] in ("info", "warning", "error")
        assert abs(datetime.now(UTC) - datetime.fromisoformat(line["time"])) < timedelta(minutes=1)
    return lines


def report_of(line):
    """The report in the last line, as `--json` prints it."""
    return {key: value for key, value in line.items() if key not in HEAD[1:]}


# What is logged when.


@pytest.mark.parametrize("options", [(), ("-q",), ("--json",), ("--dry-run",)], ids=" ".join)
def test_a_clean_run_logs_nothing(options, run, ready):
    assert run("publish", *options).err == ""
    assert len(stored(ready.url, ready.stream)) == (0 if "--dry-run" in options else 1)


def test_a_verbose_success_ends_in_its_report(run, ready):
    result = run("publish", *SLOT, "-v", "--json")
    (message,) = stored(ready.url, ready.stream)
    detail, last = logged(result.err)
    assert (detail["level"], detail["event"]) == ("info", "detail")
    assert detail["message"] == f"{ready.url} answered attempt 1; guard: compare-and-set"
    assert (last["level"], last["event"], last["seq"]) == ("info", "published", message.seq)
    where = f"in stream {ready.stream}, sequence {message.seq}"
    assert last["message"] == f"published {ready.subject} for 2026-11-23T12:00:00Z {where}"
    assert report_of(last) == json.loads(result.out)


def test_a_failure_says_why_each_attempt_failed_and_ends_in_its_report(run, place):
    result = run("publish", *SLOT, "-v", "--json", *NOWHERE)
    *attempts, last = logged(result.err)
    assert attempts
    assert {(line["level"], line["event"]) for line in attempts} == {("warning", "attempt_failed")}
    assert attempts[0]["message"].startswith("attempt 1 failed: nats://127.0.0.1:1: connection refused; next in ")
    assert (last["level"], last["event"], last["status"]) == ("error", "unavailable", 69)
    assert last["message"].endswith(f"{place.subject} for 2026-11-23T12:00:00Z was not stored")
    assert report_of(last) == json.loads(result.out)


def test_without_verbose_a_failure_is_one_object(run):
    (last,) = logged(run("publish", *NOWHERE).err)
    assert (last["event"], last["outcome"]) == ("unavailable", "unavailable")


def test_a_warning_is_followed_by_what_the_run_came_to(run, ready, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_EVRY", "1h")
    result = run("publish", "--report-file", "no/such/folder")
    assert len(stored(ready.url, ready.stream)) == 1
    typo, report, last = logged(result.err)
    assert [typo["event"], report["event"], last["event"]] == ["warning", "warning", "published"]
    assert [typo["level"], report["level"], last["level"]] == ["warning", "warning", "info"]
    assert "did you mean CRYPTO_TRIGGER_EVERY?" in typo["message"]
    assert report["message"] == (
        "the report could not be written to no/such/folder: no such file or directory; "
        "the outcome is still published (status 0)"
    )


def test_a_ping_that_failed_comes_before_the_last_object(run, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_PING_URL", "http://127.0.0.1:1/topsecret")
    ping, last = logged(run("publish", *NOWHERE).err)
    assert ping["message"] == (
        "CRYPTO_TRIGGER_PING_URL could not be pinged: connection refused (2 attempts); "
        "the outcome is still unavailable (status 69)"
    )
    assert last["event"] == "unavailable"


def test_several_problems_are_one_object(run):
    (last,) = logged(run("publish", "--every", "banana", "--timeout", "soon").err)
    assert (last["event"], last["status"]) == ("config", 78)
    assert last["error"]["hint"] == "nothing was published"
    assert last["message"] == f"{last['error']['message']}; {last['error']['hint']}"
    first, second = last["message"].split("\n")
    assert first.startswith("CRYPTO_TRIGGER_EVERY 'banana' (from --every) ")
    assert second.startswith("CRYPTO_TRIGGER_TIMEOUT 'soon' (from --timeout) ")


def test_a_bug_has_its_traceback_in_the_last_object(run, ready, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(delivery, "deliver", fail)
    result = run("publish")
    assert stored(ready.url, ready.stream) == []
    (last,) = logged(result.err)
    assert (result.status, last["event"], last["level"]) == (70, "bug", "error")
    assert last["error"] == {"kind": "ZeroDivisionError", "message": "two\nlines"}
    assert last["traceback"].startswith("Traceback (most recent call last):\n")
    assert last["traceback"].endswith("ZeroDivisionError: two\nlines")


def test_a_stream_that_differs_is_one_object(run, place):
    add_stream(place.url, place.stream, [f"{place.subject}.other"])
    result = run("setup", "--json")
    (last,) = logged(result.err)
    assert (result.status, last["event"], last["level"]) == (78, "differs", "error")
    assert report_of(last) == json.loads(result.out) | {"time": last["time"]}


@pytest.mark.parametrize("command", ["publish", "setup", "config", "demo"])
def test_a_wrong_command_line_is_one_object(command, run):
    result = run(command, "--no-such-option")
    (last,) = logged(result.err)
    assert (result.status, result.out, last["status"], last["event"]) == (2, "", 2, "config")
    assert last["message"].startswith("No such option: --no-such-option")
    assert last["error"]["kind"] == "usage"


@pytest.mark.parametrize("argv", [(), ("pubish",), ("publish", "extra"), ("publish", "--every")], ids=" ".join)
def test_any_wrong_command_line_is_one_object(argv, run):
    result = run(*argv)
    (last,) = logged(result.err)
    assert (result.status, result.out, last["status"]) == (2, "", 2)
    assert last["message"]


@pytest.mark.parametrize("option", [(), ("--env-file", "other.env"), ("--env-file=other.env",)], ids=" ".join)
@pytest.mark.parametrize("wrong", ["--no-such-option", "--every=banana"])
def test_the_format_may_come_from_the_env_file(wrong, option, run, monkeypatch):
    monkeypatch.delenv("CRYPTO_TRIGGER_LOG_FORMAT")
    Path("other.env" if option else ".env").write_text("CRYPTO_TRIGGER_LOG_FORMAT=json\n")
    (last,) = logged(run("publish", *option, wrong).err)
    assert last["event"] == "config"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_an_interrupted_run_is_one_object(signum):
    with Scripted(lambda talk: talk.listen()) as server:
        process = Process("publish", NATS_URL=server.url)
        server.talk()
        process.signal(signum)
        ended = process.end()
    (last,) = logged(ended.err)
    assert (last["event"], last["status"]) == ("interrupted", 128 + signum)


@pytest.mark.parametrize("form", ["jsonl", "JSON", "text json"])
def test_another_format_is_refused_in_text(form, run, monkeypatch):
    monkeypatch.setenv("CRYPTO_TRIGGER_LOG_FORMAT", form)
    result = run("publish", "--dry-run")
    assert result.status == 78
    assert result.err == (
        f"crypto-trigger: CRYPTO_TRIGGER_LOG_FORMAT '{form}' (from the environment) must be text or json; "
        "nothing was published\n"
    )


# How it is written.


def test_on_a_terminal_nothing_moves():
    status, seen, _ = on_terminal(200, "stderr", "publish", *NOWHERE)
    assert status == 69
    (last,) = logged(seen.replace("\r\n", "\n"))
    assert last["event"] == "unavailable"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_text_is_valid_json_for_jq(encoding):
    argv = [*PROGRAM, "publish", "-v", "--every", "ü\x1b[2J\n😀", *NOWHERE[:2]]
    environ = {**os.environ, "PYTHONIOENCODING": encoding, "CRYPTO_TRIGGER_\x07": "x"}
    done = subprocess.run(argv, env=environ, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 78
    read = subprocess.run(
        [program("jq"), "-c", "."], input=done.stderr, capture_output=True, timeout=PATIENCE, check=True
    )
    assert [json.loads(line) for line in read.stdout.splitlines()] == logged(done.stderr.decode(encoding))


def test_secrets_are_masked(run, place, monkeypatch):
    monkeypatch.setenv("NATS_TOKEN", "topsecret")
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", f"{place.subject}.topsecret")
    (last,) = logged(run("publish").err)
    assert last["subject"] == f"{place.subject}.***"
    assert "topsecret" not in str(last)


@pytest.mark.parametrize("protocol", ["--rfc5424", "--rfc3164"])
def test_a_syslog_server_gets_each_object_whole(protocol, place):
    """The line of docs/pings-and-logs.md: stderr into `logger`, which sends each line as one message."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        syslog.settimeout(PATIENCE)
        to = f"{program('logger')} --tag crypto-trigger --size 16384 -d -n 127.0.0.1 -P {syslog.getsockname()[1]}"
        line = f'{{ "$@" -v 2>&1 >&3 | {to} {protocol}; }} 3>&1'
        done = subprocess.run(
            ["sh", "-c", line, "sh", *PROGRAM, "publish", "--server", f"nats://127.0.0.1:{free_port()}", *NOWHERE[2:]],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.stdout, done.stderr) == (b"", b"")
        events = []
        while not events or events[-1]["event"] != "unavailable":
            message = syslog.recv(65536).decode()
            assert "crypto-trigger" in message.partition("{")[0]
            events += logged("{" + message.partition("{")[2].rstrip("\n\0") + "\n")
    assert events[0]["event"] == "attempt_failed"
    assert events[-1]["subject"] == place.subject
