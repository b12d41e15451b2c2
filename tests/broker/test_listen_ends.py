"""How `listen` ends: by a signal, a reader that is gone, and without permission; and a reader that does not read."""

import asyncio
import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.listening import Listening
from support.patience import until
from support.processes import HANGS, PROGRAM, Process, is_one_clean_line
from support.scripted import Scripted
from support.shell import do
from support.streams import add_stream, client, put

from crypto_trigger.commands.server import Server

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture
def ready(place):
    """The test's own place, with a stream and a trigger in it."""
    add_stream(place.url, place.stream, [place.subject])
    put(place.url, place.subject, b"one")
    return place


@pytest.fixture(params=SIGNALS, ids=lambda signum: signum.name)
def signum(request):
    return request.param


@pytest.mark.usefixtures("ready")
def test_a_signal_is_the_ordinary_end_of_a_listener_without_bounds(signum):
    with Listening("--since", "1h") as listening:
        assert listening.line().endswith(": one")
        listening.process.signal(signum)
        assert listening.end() == (0, "")
        assert listening.line() is None


@pytest.mark.parametrize("bound", [("--count", "2"), ("--for", "60s")], ids=" ".join)
def test_a_signal_before_the_bound_is_told_by_the_status_and_one_line(bound, signum, ready):
    with Listening("--since", "1h", *bound) as listening:
        assert listening.line().endswith(": one")
        listening.process.signal(signum)
        status, err = listening.end()
    assert status == SIGNALS[signum]
    progress = "1 of 2 triggers arrived" if bound[0] == "--count" else "1 trigger arrived"
    assert err == f"crypto-trigger: interrupted by {signum.name}; {progress} on {ready.subject}\n"


@pytest.mark.usefixtures("place")
def test_a_signal_before_it_listens_interrupts_it(signum):
    with Scripted(lambda talk: talk.listen()) as server:
        process = Process("listen", NATS_URL=server.url, CRYPTO_TRIGGER_TIMEOUT="20s")
        server.talk()
        process.signal(signum)
        ended = process.end()
    assert (ended.status, ended.out) == (SIGNALS[signum], "")
    assert is_one_clean_line(ended.err)
    assert f"interrupted by {signum.name}" in ended.err


def test_a_signal_while_it_connects_again_ends_a_listener_without_bounds_as_well(place):
    with Server() as server:
        add_stream(server.url, place.stream, [place.subject])
        put(server.url, place.subject, b"one")
        with Listening("--since", "1h", "-v", NATS_URL=server.url) as listening:
            assert listening.line().endswith(": one")
            server.stop()
            for line in listening.process.popen.stderr:
                if "connection refused" in line:
                    break
            listening.process.signal(signal.SIGINT)
            assert listening.end()[0] == 0


# The reader.


@pytest.mark.usefixtures("ready")
def test_a_reader_that_takes_one_line_ends_it_quietly():
    script = "set -o pipefail; crypto-trigger listen --since 1h | head -1; echo $?"
    command = f'crypto-trigger() {{ {" ".join(PROGRAM)} "$@"; }}; {script}'
    ended = do("bash", "-c", command)
    lines = ended.out.splitlines()
    assert lines[0].endswith(": one")
    assert (lines[1:], ended.err) == (["0"], "")


def test_a_reader_that_is_gone_before_the_count_ends_it_with_69(ready):
    process = Process("listen", "--since", "1h", "--count", "2")
    assert process.popen.stdout.readline().endswith(": one\n")
    process.popen.stdout.close()
    assert process.popen.wait(HANGS) == 69
    assert process.popen.stderr.read() == (
        f"crypto-trigger: nobody reads the lines any more; 1 of 2 triggers arrived on {ready.subject}\n"
    )
    process.popen.stderr.close()


def test_a_quiet_listener_needs_no_reader(ready):
    reading, writing = os.pipe()
    os.close(reading)
    command = [*PROGRAM, "listen", "--quiet", "--count", "2", "--since", "1h", "--for", "20s"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE) as process:
        os.close(writing)
        put(ready.url, ready.subject, b"two")
        assert process.wait(HANGS) == 0
        assert process.stderr.read() == b""


def many(place, count):
    """Store so many triggers of a size that no pipe takes all of."""

    async def publish():
        async with client(place.url) as connection:
            js = connection.jetstream()
            for number in range(count):
                await js.publish(place.subject, b"%d:%s" % (number, b"x" * 5000))

    asyncio.run(publish())


def blocked(pid):
    """Whether a thread of the process waits in the kernel for room in a pipe."""
    for path in Path(f"/proc/{pid}/task").glob("*/wchan"):
        with suppress(OSError):  # the thread has ended since
            if path.read_text().endswith("pipe_write"):
                return True
    return False


@contextmanager
def unread(*options, **settings):
    """`listen`, its lines unread; it does not outlive the block."""
    process = Process("listen", "--json", "--since", "1h", *options, **settings)
    try:
        yield process
    finally:
        process.kill()


def test_a_reader_that_is_slow_gets_every_line_once(ready):
    many(ready, 60)
    with unread("--count", "61", "--for", "60s", CRYPTO_TRIGGER_TIMEOUT="500ms") as process:
        until(lambda: blocked(process.popen.pid))
        time.sleep(0.3)  # the reader has something else to do
        ended = process.end()
    assert (ended.status, ended.err) == (0, "")
    assert [json.loads(line)["seq"] for line in ended.out.splitlines()] == list(range(1, 62))


@pytest.mark.parametrize("options", [(), ("--count", "61")], ids=" ".join)
def test_a_signal_ends_it_though_nobody_reads(options, ready):
    many(ready, 60)
    with unread(*options) as process:
        until(lambda: blocked(process.popen.pid))
        process.signal(signal.SIGTERM)
        assert process.popen.wait(HANGS) == (143 if options else 0)


def test_the_time_ends_it_though_nobody_reads(ready):
    many(ready, 60)
    with unread("--for", "2s") as process:
        assert process.popen.wait(HANGS) == 0


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_an_output_that_goes_nowhere_changes_no_status(redirection):
    command = f"{' '.join(PROGRAM)} listen --since 1h --count 1 --for 20s {redirection}"
    ended = do("bash", "-c", command)
    assert ended.status == 0
    assert ("could not be written" in ended.err) == (redirection == ">/dev/full")


# Permissions.

USERS = """
jetstream: enabled
accounts { A { jetstream: enabled, users: [
  {user: admin, password: admin}
  {user: none, password: secret-none, permissions: {publish: [">"], subscribe: ["_INBOX.>"]}}
  {user: info, password: secret-info, permissions: {publish: {deny: ["$JS.API.STREAM.INFO.>"]}}}
  {user: create, password: secret-create, permissions: {publish: {deny: ["$JS.API.CONSUMER.CREATE.>"]}}}
  {user: next, password: secret-next, permissions: {publish: {deny: ["$JS.API.CONSUMER.MSG.NEXT.>"]}}}
  {user: enough, password: secret-enough, permissions: {subscribe: ["_INBOX.>"], publish: [
    "$JS.API.STREAM.INFO.S", "$JS.API.CONSUMER.CREATE.S.>", "$JS.API.CONSUMER.MSG.NEXT.S.>",
    "$JS.API.CONSUMER.DELETE.S.>"]}}
]}}
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    path = tmp_path_factory.mktemp("guarded") / "server.conf"
    path.write_text(USERS)
    with Server(jetstream=False, arguments=("-c", str(path), "-sd", str(path.parent))) as server:
        add_stream(server.url, "S", ["crypto.update"], connect={"user": "admin", "password": "admin"})
        yield server


@pytest.fixture
def listen_as(guarded, run, monkeypatch):
    def listen(user, *options):
        monkeypatch.setenv("NATS_USER", user)
        monkeypatch.setenv("NATS_PASSWORD", f"secret-{user}")
        monkeypatch.setenv("CRYPTO_TRIGGER_STREAM", "S")
        return run("listen", "--server", guarded.url, *options)

    return listen


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("info", "$JS.API.STREAM.INFO.S"),
        ("create", "$JS.API.CONSUMER.CREATE.S.listen-"),
        ("next", "$JS.API.CONSUMER.MSG.NEXT.S.listen-"),
    ],
)
def test_a_permission_that_is_missing_ends_it_with_77_and_names_the_subjects(user, subject, listen_as):
    result = listen_as(user, "--for", "20s")
    assert (result.status, result.out) == (77, "")
    assert is_one_clean_line(result.err)
    assert f"has no permission to publish to {subject}" in result.err
    assert "listen needs to publish to $JS.API.STREAM.INFO.S, $JS.API.CONSUMER.CREATE.S.>, " in result.err
    assert "secret" not in result.err


def test_the_permissions_that_the_line_names_are_enough(listen_as):
    result = listen_as("enough", "--for", "1s")
    assert result == (0, "", "")


def test_core_without_permission_to_subscribe_ends_with_77_and_names_the_subject(listen_as):
    result = listen_as("none", "--for", "20s", "--delivery", "core")
    assert (result.status, result.out) == (77, "")
    assert is_one_clean_line(result.err)
    assert "has no permission to subscribe to crypto.update" in result.err


def test_on_a_terminal_it_says_that_it_listens(ready):
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [*PROGRAM, "listen", "--since", "1h", "--count", "1", "--for", "20s"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        said = os.read(ours, 4096)
        assert process.wait(HANGS) == 0
    os.close(ours)
    assert said.decode() == f"crypto-trigger: listening on {ready.subject} at {ready.url}\r\n"
