"""Statuses as a shell sees them, and cron's bare environment."""

import json
import signal
import subprocess

import pytest
from support.processes import Process
from support.streams import add_stream, stored
from support.timestamps import untimed

from crypto_trigger.commands.server import Server


@pytest.fixture
def told(installed, cron, settings):
    """The status that a shell's `$?` tells of a command of ours, and what was said on stderr."""

    def run(arguments, **environ):
        result = cron(f"{installed.program} {arguments}; echo $?", **{**settings, **environ})
        return int(result.out.splitlines()[-1]), result.err

    return run


@pytest.fixture(scope="module")
def guarded():
    """A server that asks for a token."""
    with Server(arguments=["--auth", "right"]) as running:
        yield running.url


def test_a_shell_is_told_what_became_of_the_trigger(told, place):
    status, err = told("publish")
    assert status == 78
    assert err.startswith(
        f"crypto-trigger: {place.url}: there is no stream {place.stream}; {CREATE}; {place.subject} for "
    )
    assert err.endswith("Z was not stored\n")
    assert err.count("\n") == 1
    assert told("setup") == (0, "")
    assert told("publish") == (0, "")
    assert told("publish") == (0, "")
    assert len(stored(place.url, place.stream)) == 1


CREATE = "create it with: crypto-trigger setup"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ("publish --no-such-option", 2, "No such option"),
        ("publish --server nats://127.0.0.1:1 --give-up-after 300ms", 69, "connection refused"),
        ("publish --server tls://{host} --give-up-after 2s", 76, "the server offers no TLS"),
        ("publish --every banana", 78, "CRYPTO_TRIGGER_EVERY 'banana' (from --every)"),
        ("publish --server http://foo", 78, "NATS_URL 'http://foo' (from --server)"),
        ("publish --env-file missing", 78, "--env-file 'missing' cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, int) else "",
)
def test_a_shell_is_told_why_there_is_no_trigger(arguments, status, says, told, place):
    told("setup")
    ended, err = told(arguments.format(host=place.url.removeprefix("nats://")))
    assert stored(place.url, place.stream) == []
    assert ended == status
    assert says in err
    assert "Traceback" not in err
    assert status == 2 or err.count("\n") == 1


def test_a_shell_is_told_that_another_stream_owns_the_subject(told, place):
    add_stream(place.url, place.stream, [f"{place.stream}.other"])
    add_stream(place.url, f"{place.stream}-owner", [place.subject])
    status, err = told("publish")
    assert stored(place.url, f"{place.stream}-owner") == stored(place.url, place.stream) == []
    assert status == 65
    assert f"stream {place.stream}-owner takes {place.subject}" in err


def test_a_shell_is_told_that_nobody_acknowledged(told, place):
    add_stream(place.url, place.stream, [place.subject], no_ack=True)
    status, err = told("publish --force --give-up-after 500ms")
    assert stored(place.url, place.stream) != []
    assert status == 75
    assert "no acknowledgement within the timeout (" in err


def test_a_shell_is_told_that_the_credentials_are_refused(told, guarded):
    status, err = told("publish", NATS_URL=guarded, NATS_TOKEN="wrongwrong")
    assert status == 77
    assert "wrongwrong" not in err


def test_a_shell_is_told_of_the_signal(installed, cron, tmp_path):
    log = tmp_path / "log"
    refused = f"{installed.program} publish -v --server nats://127.0.0.1:1 2> {log} &"
    until_it_waits = f"n=0; while [ ! -s {log} ] && [ $n -lt 300 ]; do sleep 0.1; n=$((n + 1)); done"
    result = cron(f"{refused} {until_it_waits}; kill -TERM $!; wait $!; echo $?")
    assert result[:3] == (0, "143\n", "")
    assert untimed(log.read_text()).splitlines()[-1].startswith("crypto-trigger: interrupted by SIGTERM")


def test_ctrl_c_ends_with_130(installed):
    process = Process("publish", "-v", "--server", "nats://127.0.0.1:1", command=(installed.program,))
    assert "attempt 1 failed" in process.popen.stderr.readline()
    process.signal(signal.SIGINT)
    ended = process.end()
    assert (ended.status, ended.out) == (130, "")
    assert untimed(ended.err).splitlines()[-1].startswith("crypto-trigger: interrupted by SIGINT")


# What cron and its crontabs do to stdin, stdout and stderr.
PLUMBING = {
    "plain": "{}",
    "stdin-closed": "{} <&-",
    "stdout-closed": "{} >&-",
    "stderr-closed": "{} 2>&-",
    "all-closed": "{} <&- >&- 2>&-",
    "stdout-full": "{} > /dev/full",
    "both-full": "{} > /dev/full 2>&1",
    "reader-gone": "{{ {}; echo $? >&3; }} 3>status | true",
}


@pytest.mark.parametrize("plumbing", PLUMBING.values(), ids=PLUMBING)
@pytest.mark.parametrize(
    ("arguments", "status"),
    [("publish", 0), ("publish --json -v", 0), ("publish --server nats://127.0.0.1:1 --give-up-after 200ms", 69)],
    ids=["published", "json", "refused"],
)
def test_in_crons_environment_the_status_is_right_whatever_the_plumbing(
    arguments, status, plumbing, installed, cron, settings, place, tmp_path, run
):
    run("setup")
    line = plumbing.replace("3>status", f"3>{tmp_path}/status").format(f"{installed.program} {arguments}")
    result = cron(line, **settings)
    ended = int((tmp_path / "status").read_text()) if "status" in line else result.status
    assert len(stored(place.url, place.stream)) == (status == 0)
    assert ended == status
    assert "Traceback" not in result.err
    assert "Exception ignored" not in result.err


@pytest.mark.parametrize("bare", [{}, {"HOME": "/nowhere"}], ids=["nothing", "no-home"])
def test_with_no_environment_at_all_flags_are_enough(bare, installed, place, run, tmp_path):
    run("setup")
    command = [installed.program, "publish", "--json", "--report-file", str(tmp_path / "report")]
    for option in ("server", "stream", "subject"):
        command += [f"--{option}", getattr(place, {"server": "url"}.get(option, option))]
    done = subprocess.run(command, env=bare, cwd="/", capture_output=True, timeout=60, check=False)
    assert len(stored(place.url, place.stream)) == 1
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == json.loads((tmp_path / "report").read_text())


def test_a_working_directory_that_is_gone_is_no_failure(installed, cron, settings, place, run, tmp_path):
    run("setup")
    gone = tmp_path / "gone"
    # Where the path of the interpreter is long, the program itself begins as a shell script, which complains.
    program = f"{installed.folder}/bin/python {installed.program}"
    result = cron(f"mkdir {gone}; cd {gone}; rmdir {gone}; {program} publish -q", **settings)
    assert result[:3] == (0, "", "")
    assert len(stored(place.url, place.stream)) == 1
