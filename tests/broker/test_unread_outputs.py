"""A pipe or a terminal that nobody reads: the run ends by its deadline, with the status that it has come to."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.patience import until
from support.ports import free_port
from support.processes import HANGS, PROGRAM
from support.scripted import Scripted
from support.streams import stored
from support.timestamps import untimed

SLOT = ("--scheduled-at", "2026-11-23T12:00:00Z")
NOWHERE = ("--server", "nats://127.0.0.1:1")
# The deadline of these runs, in seconds, and what everything may take beyond it.
DEADLINE = 1.5
BEYOND = 1.0
# Starting the interpreter is no part of the run, and takes long while other tests run.
START = 8.0


def fill(descriptor):
    """Write until no more is taken; the description stays one that blocks."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    # A terminal passes on what it was given and takes a little more: until it has been full for a while.
    refused = 0
    while refused < 20:
        for size in (65536, 256, 1):
            try:
                while True:
                    os.write(descriptor, b"x" * size)
                    refused = 0
            except BlockingIOError:
                pass
        refused += 1
        time.sleep(0.01)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)


@contextmanager
def full_pipe():
    """The two ends of a pipe that takes nothing more."""
    reading, writing = os.pipe()
    fill(writing)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def full_terminal():
    """The two sides of a terminal that takes nothing more."""
    ours, theirs = pty.openpty()
    fill(theirs)
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


@contextmanager
def running(*argv, give_up_after=f"{DEADLINE}s", **options):
    """The program in a process of its own, which must have ended by itself when the block does."""
    settings = {"CRYPTO_TRIGGER_GIVE_UP_AFTER": give_up_after, "CRYPTO_TRIGGER_BACKOFF_MAX": "250ms"}
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen([*PROGRAM, *argv], env={**os.environ, **settings}, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def end(process, seconds):
    """Wait for the end, which must come within this time; the status and what was said in the pipes that are read."""
    began = time.monotonic()
    try:
        out, err = process.communicate(timeout=HANGS)
    except subprocess.TimeoutExpired:
        pytest.fail("it does not end")
    assert time.monotonic() - began < seconds
    return process.returncode, (out or b"").decode(), (err or b"").decode()


@pytest.fixture
def ready(run, place):
    """The test's own place, with its stream set up."""
    assert run("setup").status == 0
    return place


WARNING = (
    "crypto-trigger: warning: the answer could not be written to stdout: nobody reads it; "
    "the outcome is still published (status 0)\n"
)


@pytest.mark.parametrize("full", [full_pipe, full_terminal])
@pytest.mark.parametrize("options", [(), ("--json",), ("-v",)], ids=" ".join)
def test_a_trigger_is_delivered_though_nobody_reads_stdout(options, full, ready):
    with full() as (_, writing), running("publish", *SLOT, *options, stdout=writing) as process:
        status, _, err = end(process, START + DEADLINE + BEYOND)
    assert len(stored(ready.url, ready.stream)) == 1
    assert status == 0
    assert untimed(err).endswith(WARNING)


@pytest.mark.parametrize("full", [full_pipe, full_terminal])
@pytest.mark.parametrize("options", [(), ("--json",), ("-v",), ("-v", "--json")], ids=" ".join)
def test_a_failure_ends_though_nobody_reads_stderr(options, full):
    with full() as (_, writing), running("publish", *NOWHERE, *options, stderr=writing) as process:
        status, out, _ = end(process, START + DEADLINE + BEYOND)
    assert status == 69
    assert not out or json.loads(out)["status"] == 69


@pytest.mark.parametrize("full", [full_pipe, full_terminal])
def test_a_failure_ends_though_nobody_reads_anything(full):
    with (
        full() as (_, one),
        full() as (_, other),
        running("publish", *NOWHERE, "-v", "--json", stdout=one, stderr=other) as process,
    ):
        assert end(process, START + DEADLINE + BEYOND)[0] == 69


@pytest.mark.parametrize(
    ("argv", "stream", "status"),
    [
        (("config",), "stdout", 0),
        (("setup",), "stdout", 0),
        (("publish", "--dry-run"), "stdout", 0),
        (("--help",), "stdout", 0),
        (("publish", "--help"), "stdout", 0),
        (("--version",), "stdout", 0),
        (("publish", "--no-such-option"), "stderr", 2),
        (("publish", "--every", "banana"), "stderr", 78),
        (("publish", "--env-file", "/nowhere"), "stderr", 78),
        (("publish", "--dry-run", "-v"), "stderr", 0),
        (("demo",), "stdout", 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("place")
def test_every_command_ends_though_nobody_reads_what_it_says(argv, stream, status):
    with full_pipe() as (_, writing), running(*argv, **{stream: writing}) as process:
        assert end(process, START + DEADLINE + BEYOND)[0] == status


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=" ".join)
def test_a_signal_ends_the_wait_for_a_reader_and_changes_no_status(options, signum, ready):
    with (
        full_pipe() as (_, writing),
        running("publish", *SLOT, *options, stdout=writing, give_up_after="60s") as process,
    ):
        until(lambda: stored(ready.url, ready.stream))
        until(lambda: writes_to_a_full_pipe(process.pid))
        process.send_signal(signum)
        status, _, err = end(process, START)
    assert (status, err) == (0, WARNING)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_a_signal_ends_a_failed_run_that_nobody_reads(signum):
    with (
        full_pipe() as (_, writing),
        running("publish", "--every", "banana", stderr=writing, give_up_after="60s") as process,
    ):
        until(lambda: writes_to_a_full_pipe(process.pid))
        process.send_signal(signum)
        assert end(process, START)[0] == 78


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_a_signal_while_a_server_is_silent_ends_the_run_though_nobody_reads_stderr(signum):
    with Scripted(lambda talk: talk.listen()) as server, full_pipe() as (_, writing):
        argv = ("publish", "-v", "--timeout", "50s", "--server", server.url)
        with running(*argv, stderr=writing, give_up_after="60s") as process:
            server.talk()
            process.send_signal(signum)
            assert end(process, START)[0] == 128 + signum


def test_an_answer_that_is_not_given_yet_is_interrupted():
    with full_pipe() as (_, writing), running("config", stdout=writing, give_up_after="60s") as process:
        until(lambda: writes_to_a_full_pipe(process.pid))
        process.send_signal(signal.SIGTERM)
        assert end(process, START)[0] == 143


def writes_to_a_full_pipe(pid):
    """Whether a thread of the process waits in the kernel for room in a pipe."""
    waits = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/wchan")]
    return any(wait.endswith("pipe_write") for wait in waits)


def test_a_reader_that_is_slow_gets_the_whole_answer(ready):
    with full_pipe() as (reading, writing), running("publish", *SLOT, "--json", stdout=writing) as process:
        until(lambda: stored(ready.url, ready.stream))
        until(lambda: writes_to_a_full_pipe(process.pid))
        seen = b""
        while b"\n" not in seen:
            seen += os.read(reading, 65536)
        assert end(process, START)[0] == 0
    assert json.loads(seen.lstrip(b"x"))["outcome"] == "published"


def test_a_pipe_that_another_process_made_non_blocking_gets_the_whole_answer(ready):
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK | os.O_WRONLY)
    filled = os.write(writing, b"x" * 65536)
    with running("publish", *SLOT, "--json", stdout=writing) as process:
        until(lambda: stored(ready.url, ready.stream))
        os.close(writing)
        seen = b""
        while chunk := os.read(reading, 65536):
            seen += chunk
        assert end(process, START)[0] == 0
    os.close(reading)
    assert json.loads(seen[filled:])["outcome"] == "published"


def test_what_verbose_tells_does_not_hold_a_run_whose_stderr_nobody_reads(ready):
    """The text is dropped, and the trigger is delivered at the usual time."""
    with full_pipe() as (_, writing), running("publish", *SLOT, "-v", stderr=writing, give_up_after="60s") as process:
        status, out, _ = end(process, START + BEYOND)
    assert len(stored(ready.url, ready.stream)) == 1
    assert status == 0
    assert out.startswith("published ")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_the_development_server_stops_though_nobody_reads_its_lines(signum, run):
    port = free_port()
    server = ("--server", f"nats://127.0.0.1:{port}")
    with full_pipe() as (_, writing), running("demo", "--stay", "--port", str(port), stdout=writing) as process:
        until(lambda: run("publish", *server, "-q", "--give-up-after", "1s").status == 0)
        process.send_signal(signum)
        assert end(process, START + BEYOND)[0] == 0
