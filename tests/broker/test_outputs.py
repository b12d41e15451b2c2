"""What is said where: the answer on stdout, the rest on stderr, the report in its file, and a secret nowhere."""

import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.processes import PROGRAM, is_one_clean_line
from support.streams import stored
from support.terminals import on_terminal
from support.timestamps import untimed

from crypto_trigger import __version__
from crypto_trigger.commands.server import Server
from crypto_trigger.slots.trigger import Trigger

NOWHERE = ("--server", "nats://127.0.0.1:1", "--give-up-after", "200ms")
KEYS = ["outcome", "status", "delivery", "subject", "stream", "seq", "msg_id", "scheduled_at", "guard", "attempts"]
SLOT = ("--scheduled-at", "2026-11-23T12:00:00Z")


@pytest.fixture
def ready(run, place):
    """The test's own place, with its stream set up."""
    assert run("setup").status == 0
    return place


# The answer.


def test_json_is_one_object_on_one_line_with_the_keys_that_apply(run, ready):
    result = run("publish", *SLOT, "--json")
    report = json.loads(result.out)
    (message,) = stored(ready.url, ready.stream)
    assert result.out.count("\n") == 1
    assert result.err == ""
    assert report.pop("elapsed_ms") > 0
    assert report.pop("version") == __version__
    assert abs(datetime.now(UTC) - datetime.fromisoformat(report.pop("time"))) < timedelta(seconds=5)
    assert report == {
        "outcome": "published",
        "status": 0,
        "delivery": "jetstream",
        "subject": ready.subject,
        "stream": ready.stream,
        "seq": message.seq,
        "msg_id": message.headers["Nats-Msg-Id"],
        "scheduled_at": "2026-11-23T12:00:00Z",
        "guard": "compare-and-set",
        "attempts": 1,
        "server": ready.url,
        "client_id": "worker-server",
    }


@pytest.mark.parametrize(
    ("options", "outcome", "absent"),
    [
        ((), "duplicate", set()),
        (("--dry-run",), "dry-run", {"seq", "guard", "attempts", "server"}),
        (NOWHERE, "unavailable", {"seq", "guard", "server"}),
        (("--every", "banana"), "config", set(KEYS) - {"outcome", "status"}),
    ],
    ids=["duplicate", "dry-run", "unavailable", "config"],
)
def test_json_tells_every_outcome_and_leaves_out_what_does_not_apply(options, outcome, absent, run, ready):
    run("publish", *SLOT)
    result = run("publish", *SLOT, "--json", *options)
    report = json.loads(result.out)
    assert len(stored(ready.url, ready.stream)) == 1
    assert (report["outcome"], report["status"]) == (outcome, result.status)
    assert [key for key in KEYS if key in report] == [key for key in KEYS if key not in absent]
    assert ("error" in report) == (result.status != 0) == (result.err != "")
    if "error" in report:
        assert set(report["error"]) <= {"kind", "message", "hint"}
        assert report["error"]["message"] in result.err


@pytest.mark.parametrize("options", [("-q",), ("--quiet", "--json"), ("-q", "--dry-run")], ids=" ".join)
def test_quiet_leaves_the_status_to_tell(options, run, ready):
    assert run("publish", *options) == (0, "", "")
    assert len(stored(ready.url, ready.stream)) == (0 if "--dry-run" in options else 1)


def test_quiet_does_not_hide_a_failure(run):
    result = run("publish", "-q", *NOWHERE)
    assert (result.status, result.out) == (69, "")
    assert result.err.startswith("crypto-trigger: nats://127.0.0.1:1: connection refused")
    assert is_one_clean_line(result.err)


def test_verbose_tells_on_stderr_what_happened_and_changes_no_answer(run, ready):
    result = run("publish", *SLOT, "-v")
    assert result.out == f"published {ready.subject} for 2026-11-23T12:00:00Z in stream {ready.stream}, sequence 1\n"
    assert untimed(result.err) == f"crypto-trigger: {ready.url} answered attempt 1; guard: compare-and-set\n"
    assert untimed(run("setup", "-v").err) == f"crypto-trigger: {ready.url} answered\n"


def test_verbose_tells_why_each_attempt_failed_and_how_long_it_waits(run):
    result = run("publish", "-v", *NOWHERE)
    *waits, last = untimed(result.err).splitlines()
    assert waits
    assert all("failed: nats://127.0.0.1:1: connection refused; next in " in line for line in waits)
    assert last.startswith("crypto-trigger: nats://127.0.0.1:1: connection refused (")


def test_a_dry_run_connects_to_nothing_and_finds_every_bad_setting(run, place):
    result = run("publish", *SLOT, "--dry-run", "--server", "nats://127.0.0.1:1")
    assert result.status == 0
    assert result.out.startswith(
        f'dry run: would publish {{"trigger":"update"}} to {place.subject} for 2026-11-23T12:00:00Z '
    )
    assert result.err == ""
    result = run("publish", "--dry-run", "--every", "banana", "--timeout", "soon")
    assert result.status == 78
    assert len(result.err.splitlines()) == 2


@pytest.mark.parametrize(
    "argv", [(), ("pubish",), ("publish", "--pubish"), ("publish", "extra"), ("publish", "--every")], ids=" ".join
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_wrong_on_stderr(argv, run):
    result = run(*argv)
    assert (result.status, result.out) == (2, "")
    assert result.err
    assert "Traceback" not in result.err


# A terminal.


def test_on_a_terminal_the_wait_is_shown_and_goes():
    status, seen, out = on_terminal(200, "stderr", "publish", *NOWHERE)
    assert (status, out) == (69, "")
    # A frame of the line that moves may be left out on a busy machine.
    assert re.search(r"attempt [0-9]+ failed: nats://127\.0\.0\.1:1: connection refused; next in ", seen)
    erase_line = "\x1b[2K"
    assert seen.rpartition(erase_line)[2].strip().startswith("crypto-trigger: nats://127.0.0.1:1: connection refused (")


def test_in_a_pipe_nothing_moves(run):
    assert is_one_clean_line(run("publish", *NOWHERE).err)


# The report file.


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize(
    "options",
    [(), ("--dry-run",), NOWHERE, ("--every", "banana"), ("--subject", "no stream")],
    ids=lambda o: " ".join(o[:2]),
)
@pytest.mark.parametrize("by", ["flag", "environment"])
def test_the_report_file_holds_what_json_says_whatever_the_outcome(by, options, run, monkeypatch):
    path = Path("report.json")
    path.write_text("what was there before, and is longer than any report will ever be\n" * 100)
    if by == "flag":
        options += ("--report-file", path)
    else:
        monkeypatch.setenv("CRYPTO_TRIGGER_REPORT_FILE", str(path))
    result = run("publish", *options, "--json")
    assert json.loads(path.read_text()) == json.loads(result.out)
    assert path.read_text().count("\n") == 1
    assert "warning" not in result.err


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, None], ids=["fifo", "directory", "no-such-folder"])
@pytest.mark.parametrize(("options", "status"), [((), 0), (NOWHERE, 69)], ids=["published", "unavailable"])
def test_a_report_that_cannot_be_written_is_one_warning_and_no_failure(make, options, status, run, ready):
    path = "there" if make else "nowhere/there"
    if make:
        make(path)
    result = run("publish", *options, "--report-file", path)
    assert len(stored(ready.url, ready.stream)) == (status == 0)
    assert result.status == status
    warnings = [line for line in result.err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"crypto-trigger: warning: the report could not be written to {path}: ")
    assert len(result.err.splitlines()) == 1 + (status != 0)


# A stdout or stderr that takes nothing.

SINKS = {
    "stdout-closed": (">&-", ""),
    "stdout-full": ("> /dev/full", "crypto-trigger: warning: the answer could not be written to stdout: "),
    "stderr-closed": ("2>&-", ""),
    "stderr-full": ("2> /dev/full", ""),
    "both-closed": (">&- 2>&-", ""),
    "all-closed": ("<&- >&- 2>&-", ""),
}


def through_shell(redirection, *argv):
    """Run the program with a shell's redirection; its status, stdout and stderr."""
    line = f'"$@" {redirection}'
    done = subprocess.run(
        ["sh", "-c", line, "sh", *PROGRAM, *argv], capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("redirection", "said"), SINKS.values(), ids=SINKS)
def test_output_that_goes_nowhere_changes_no_status(redirection, said, ready):
    status, _, err = through_shell(redirection, "publish", "--report-file", "report.json")
    (message,) = stored(ready.url, ready.stream)
    assert status == 0
    assert err.startswith(said) if said else err == ""
    assert len(err.splitlines()) == bool(said)
    assert json.loads(Path("report.json").read_text())["seq"] == message.seq
    assert through_shell(redirection, "publish", "--json", *NOWHERE)[0] == 69
    for status, argv in ((0, ["--help"]), (0, ["--version"]), (2, ["publish", "--no-such-option"])):
        ended, _, err = through_shell(redirection, *argv)
        assert ended == status
        assert "Traceback" not in err


def test_a_reader_that_has_gone_changes_no_status(ready):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*PROGRAM, "publish"], stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False)
    os.close(writing)
    assert len(stored(ready.url, ready.stream)) == 1
    assert (done.returncode, done.stderr) == (0, b"")


def test_letters_that_the_terminal_lacks_are_escaped(ready):
    subject = f"{ready.stream}.ü"
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "CRYPTO_TRIGGER_SUBJECT": subject}
    for argv in (["setup", "--update"], ["publish"]):
        done = subprocess.run([*PROGRAM, *argv], capture_output=True, env=environ, timeout=30, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    assert [message.subject for message in stored(ready.url, ready.stream)] == [subject]
    assert rb".\xfc for " in done.stdout


# A bug.


def test_a_bug_ends_with_70_a_traceback_and_no_secret(run, ready, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("with hunter2hunter2 in its text")

    monkeypatch.setattr(Trigger, "for_slot", broken)
    monkeypatch.setenv("NATS_USER", "worker")
    monkeypatch.setenv("NATS_PASSWORD", "hunter2hunter2")
    result = run("publish", "--json")
    assert stored(ready.url, ready.stream) == []
    report = json.loads(result.out)
    assert (result.status, report["outcome"], report["status"]) == (70, "bug", 70)
    assert report["error"] == {"kind": "ZeroDivisionError", "message": "with *** in its text"}
    assert "Traceback (most recent call last)" in result.err
    assert result.err.splitlines()[-1].startswith("crypto-trigger: this is a bug in crypto-trigger")
    assert "hunter2" not in result.err


# Secrets.

SECRET = "hunter2/hunter@two"
ESCAPED = "hunter2%2Fhunter%40two"
# With the status that each ends with where the secret is accepted.
COMMANDS = [
    (["setup", "-v"], 0),
    (["setup", "--json"], 0),
    (["publish", "-v"], 0),
    (["publish", "--json", "--report-file", "report.json"], 0),
    (["publish", "--force", "-v"], 0),
    (["publish", "--dry-run", "--json", "-v"], 0),
    (["publish", "--every", "banana", "--json"], 78),
    (["config"], 0),
    (["config", "--json"], 0),
]


def carriers(url):
    """Each way to hand over a password or token: its environment, and the server options that fit."""
    host = url.removeprefix("nats://")
    return {
        "url": {"NATS_URL": f"nats://worker:{ESCAPED}@{host}"},
        "url-unescaped": {"NATS_URL": f"nats://worker:{SECRET.replace('/', '%2F')}@{host}"},
        "environment": {"NATS_URL": url, "NATS_USER": "worker", "NATS_PASSWORD": SECRET},
        "file": {"NATS_URL": url, "NATS_USER": "worker", "NATS_PASSWORD_FILE": "secret"},
        "token-url": {"NATS_URL": f"nats://{ESCAPED}@{host}"},
        "token": {"NATS_URL": url, "NATS_TOKEN": SECRET},
        "token-file": {"NATS_URL": url, "NATS_TOKEN_FILE": "secret"},
        "token-as-user": {"NATS_URL": url, "NATS_USER": SECRET},
    }


@pytest.fixture(scope="module")
def guarded():
    """Two servers that ask for a password and a token."""
    with (
        Server(arguments=["--user", "worker", "--pass", SECRET]) as password,
        Server(arguments=["--auth", SECRET]) as token,
    ):
        yield {"password": password.url, "token": token.url}


@pytest.mark.parametrize("right", [True, False], ids=["accepted", "refused"])
@pytest.mark.parametrize("carrier", list(carriers("")))
def test_a_secret_appears_in_no_output_of_any_command(carrier, right, run, guarded, monkeypatch, tmp_path):
    kind = "token" if carrier.startswith("token") else "password"
    # A secret of the right kind for a server that wants the other is refused, and as little to be shown.
    url = guarded[kind if right else {"token": "password", "password": "token"}[kind]]
    Path("secret").write_text(SECRET + "\n")
    for name, value in carriers(url)[carrier].items():
        monkeypatch.setenv(name, value)
    name = f"s{tmp_path.name[-20:]}".translate(str.maketrans("[]-_", "xxxx"))
    monkeypatch.setenv("CRYPTO_TRIGGER_STREAM", name)
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", f"{name}.update")
    monkeypatch.setenv("CRYPTO_TRIGGER_GIVE_UP_AFTER", "1s")
    for command, status in COMMANDS:
        result = run(*command)
        assert result.status == (
            status if right or status == 78 or "config" in command or "--dry-run" in command else 77
        )
        seen = result.out + result.err + (Path("report.json").read_text() if Path("report.json").exists() else "")
        assert [part for part in (SECRET, ESCAPED, "hunter2", "hunter@two") if part in seen] == [], command


@pytest.mark.parametrize("command", ["publish", "setup", "config", "demo"])
def test_no_command_takes_a_secret_as_an_argument(command, run):
    options = run(command, "--help").out
    # A credentials file is named by its path; a user needs a password from elsewhere, because alone it is a token.
    assert not [word for word in ("--password", "--token", "--jwt", "--seed", "--ping-url") if word in options]
