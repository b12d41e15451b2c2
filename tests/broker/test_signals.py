"""SIGTERM and SIGINT at any moment: no new attempt, and a status and a line that are true."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.ports import free_port
from support.processes import PROGRAM, Process, beginning_with, execute, is_one_clean_line
from support.programs import program
from support.proxy import holding
from support.scripted import Scripted
from support.streams import add_stream, stored
from support.timestamps import untimed

SETTINGS = {
    "CRYPTO_TRIGGER_TIMEOUT": "20s",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "25s",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "20s",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "20s",
}
SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130}
# What an answer already due may take after a signal, in seconds.
GRACE = 2.0


@pytest.fixture(params=SIGNALS, ids=lambda signum: signum.name)
def signum(request):
    return request.param


def start(*argv, **settings):
    return Process("publish", "--json", *argv, **{**SETTINGS, **settings})


def interrupted(ended, signum, becomes):
    """What holds for every interrupted run."""
    assert ended.status == SIGNALS[signum]
    says(ended, signum, becomes)
    report = json.loads(ended.out)
    assert (report["outcome"], report["status"]) == ("interrupted", ended.status)
    assert report["error"].get("perhaps", False) is (becomes == SENT)


def says(ended, signum, becomes):
    """The one line names the signal, the subject, the slot, and what became of the trigger."""
    assert is_one_clean_line(ended.err)
    assert untimed(ended.err).startswith(f"crypto-trigger: interrupted by {signum.name}")
    assert re.search(rf"; \S+\.update for 20\S+:00Z {becomes}\n$", ended.err)


NOT_SENT = "was not stored"
SENT = "may be stored"


class Gate:
    """Holds a child process where it first imports a module, until it is told to go on."""

    def __init__(self, folder, module):
        (self._seen, self._told), (self._held, self._go) = os.pipe(), os.pipe()
        self.settings = beginning_with(
            folder,
            "import os, sys\n"
            "class Gate:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            f"        if name == {module!r}:\n"
            "            sys.meta_path.remove(self)\n"
            f"            os.write({self._told}, b'x')\n"
            f"            os.read({self._held}, 1)\n"
            "sys.meta_path.insert(0, Gate())\n",
        )

    def start(self, *argv, **settings):
        """Start the program and wait until it stands at the gate."""
        process = Process(*argv, pass_fds=(self._told, self._held), **{**SETTINGS, **self.settings, **settings})
        os.close(self._told)
        os.close(self._held)
        at_the_gate = os.read(self._seen, 1)
        os.close(self._seen)
        assert at_the_gate, f"it ended without coming to the gate: {process.end()}"
        return process

    def open(self):
        with suppress(BrokenPipeError):  # the signal has ended it at the gate
            os.write(self._go, b"x")
        os.close(self._go)


@pytest.mark.parametrize(
    "module",
    [
        *("crypto_trigger.commands.entry", "crypto_trigger.commands.publish", "crypto_trigger.settings.load"),
        *("asyncio", "nats", "crypto_trigger.connection.credentials"),
    ],
)
def test_a_signal_before_the_first_connection_ends_the_run_unsent(module, signum, tmp_path):
    with Scripted(lambda talk: talk.listen()) as server:
        gate = Gate(tmp_path, module)
        process = gate.start("publish", NATS_URL=server.url)
        process.signal(signum)
        gate.open()
        ended = process.end()
        assert server.talks == []
    assert ended.status == SIGNALS[signum]
    assert "Traceback" not in ended.err
    assert re.fullmatch(
        r"(crypto-trigger: interrupted before anything was sent(; crypto\.update for \S+ was not stored)?\n)?",
        ended.err,
    )


def test_a_signal_while_a_server_is_silent_ends_the_run_unsent(signum):
    with Scripted(lambda talk: talk.listen()) as server:
        process = start(NATS_URL=server.url)
        server.talk()
        process.signal(signum)
        ended = process.end()
    interrupted(ended, signum, NOT_SENT)
    assert ended.seconds < GRACE


def test_a_signal_while_the_stream_is_read_ends_the_run_unsent(signum):
    def script(talk):
        talk.welcome()
        talk.listen()

    with Scripted(script) as server:
        process = start(NATS_URL=server.url)
        server.talk().wait_for(b"STREAM.MSG.GET")
        process.signal(signum)
        ended = process.end()
    interrupted(ended, signum, NOT_SENT)


def test_a_signal_in_the_wait_for_the_next_attempt_ends_it(signum):
    process = Process("publish", "-v", NATS_URL=f"nats://127.0.0.1:{free_port()}", **SETTINGS)
    line = process.popen.stderr.readline()
    assert "attempt 1 failed" in line
    process.signal(signum)
    ended = process.end()
    assert ended.status == SIGNALS[signum]
    says(ended, signum, NOT_SENT)


def test_a_signal_in_the_wait_after_a_doubtful_attempt_says_so(signum):
    def script(talk):
        talk.welcome()
        talk.empty_stream()
        talk.asked()

    with Scripted(script) as server:
        process = Process("publish", "-v", NATS_URL=server.url, **SETTINGS)
        assert "attempt 1 failed" in process.popen.stderr.readline()
        process.signal(signum)
        ended = process.end()
        assert len(server.talks) == 1
    assert ended.status == SIGNALS[signum]
    says(ended, signum, SENT)


@pytest.fixture
def held_back(place):
    """The real server, its acknowledgement of a trigger held back."""
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    with holding(place.url, b"HPUB " + place.subject.encode()) as hold:
        yield hold


def test_an_answer_that_comes_after_the_signal_still_counts(signum, held_back, place):
    process = start(NATS_URL=held_back.url)
    held_back.wait_for(b'{"trigger":"update"}')
    process.signal(signum)
    held_back.release()
    ended = process.end()
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["outcome"] == "published"


def test_no_answer_after_the_signal_leaves_a_doubt_and_says_so(signum, held_back, place):
    process = start(NATS_URL=held_back.url)
    held_back.wait_for(b'{"trigger":"update"}')
    process.signal(signum)
    ended = process.end()
    assert len(stored(place.url, place.stream)) == 1
    interrupted(ended, signum, SENT)
    assert ended.seconds < GRACE + 1
    again = execute("publish", NATS_URL=place.url, **SETTINGS)
    assert len(stored(place.url, place.stream)) == 1
    assert again.status == 0


def test_a_second_signal_ends_at_once(signum, held_back, place):
    process = start(NATS_URL=held_back.url)
    held_back.wait_for(b'{"trigger":"update"}')
    for other in (signum, *SIGNALS):
        process.signal(other)
    ended = process.end()
    assert len(stored(place.url, place.stream)) == 1
    assert ended.status in SIGNALS.values()
    assert "may be stored" in ended.err
    assert is_one_clean_line(ended.err)
    assert ended.seconds < GRACE


def test_a_connection_that_dies_after_the_signal_starts_no_new_attempt(signum):
    def script(talk):
        talk.welcome()
        talk.empty_stream()
        talk.asked()
        talk.hear(b"never said")

    with Scripted(script) as server:
        process = start(NATS_URL=server.url, CRYPTO_TRIGGER_BACKOFF_BASE="1ms", CRYPTO_TRIGGER_BACKOFF_MAX="1ms")
        server.talk().wait_for(b'{"trigger":"update"}')
        process.signal(signum)
        server.talk().close()
        ended = process.end()
        assert len(server.talks) == 1
    interrupted(ended, signum, SENT)


def test_a_signal_right_after_the_acknowledgement_changes_nothing(signum, place, tmp_path):
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    gate = Gate(tmp_path, "crypto_trigger.reporting.report")
    process = gate.start("publish")
    for _ in range(3):
        process.signal(signum)
    gate.open()
    ended = process.end()
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("published ")


def test_signals_while_a_failure_is_told_leave_no_traceback(signum, tmp_path):
    gate = Gate(tmp_path, "crypto_trigger.reporting.report")
    process = gate.start("publish", CRYPTO_TRIGGER_TIMEOUT="nonsense")
    for _ in range(3):
        process.signal(signum)
    gate.open()
    ended = process.end()
    assert ended.status == 78
    assert is_one_clean_line(ended.err)


@pytest.mark.parametrize("command", [("--help",), ("config",), ("setup",)], ids=lambda command: command[0])
def test_other_commands_end_on_a_signal_without_a_traceback(command, signum, tmp_path):
    gate = Gate(tmp_path, "typer")
    process = gate.start(*command)
    process.signal(signum)
    gate.open()
    ended = process.end()
    assert ended.status == SIGNALS[signum]
    assert "Traceback" not in ended.err


def test_a_signal_the_parent_ignores_stays_ignored(place):
    """As nohup and a shell's background jobs have it."""
    add_stream(place.url, place.stream, [place.subject], duplicate_window=1800)
    # Nothing is sent yet: a signal that is heard ends the run here.
    with holding(place.url, b"STREAM.MSG.GET") as hold:
        shell = ("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh")
        process = Process("publish", command=(*shell, *PROGRAM), **{**SETTINGS, "NATS_URL": hold.url})
        hold.wait_for(b"STREAM.MSG.GET")
        process.signal(signal.SIGINT)
        hold.release()
        ended = process.end()
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")


@pytest.fixture
def as_pid_1():
    """The command that makes a program PID 1 of its own PID namespace."""
    command = [program("unshare"), "--pid", "--fork", "--mount-proc"]
    tried = subprocess.run(
        [*command, sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=False
    )
    if tried.returncode or tried.stdout != b"1\n":
        pytest.skip(f"unshare may not make a PID namespace: {tried.stderr.decode().strip()}")
    return (*command, *PROGRAM)


def child_of(process):
    """The pid of the process that unshare waits for, as we see it."""
    pid = process.popen.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_pid_1_hears_signals_while_it_waits(signum, as_pid_1):
    with Scripted(lambda talk: talk.listen()) as server:
        process = Process("publish", "--json", command=as_pid_1, **{**SETTINGS, "NATS_URL": server.url})
        server.talk()
        os.kill(child_of(process), signum)
        ended = process.end()
    interrupted(ended, signum, NOT_SENT)


def test_pid_1_waits_for_an_answer_already_due(signum, held_back, place, as_pid_1):
    process = Process("publish", "--json", command=as_pid_1, **{**SETTINGS, "NATS_URL": held_back.url})
    held_back.wait_for(b'{"trigger":"update"}')
    os.kill(child_of(process), signum)
    held_back.release()
    ended = process.end()
    assert len(stored(place.url, place.stream)) == 1
    assert (ended.status, ended.err) == (0, "")
