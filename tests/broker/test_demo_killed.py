"""What is left of `demo` when it, or its server, is killed; and what it says of that."""

import asyncio
import os
import signal
from contextlib import suppress

import pytest
from support.development import Development
from support.patience import until
from support.ports import free_port
from support.processes import HANGS, is_one_clean_line
from support.scripted import Scripted
from support.traces import children, using

from crypto_trigger.deadline.retry import Attempt
from crypto_trigger.delivery.subscriber import Subscriber
from crypto_trigger.errors import TriggerError
from crypto_trigger.settings.load import load


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty folder for temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def stay(scratch):
    """A development server that is up; whatever is left of it ends with the test."""
    running = Development(free_port())
    running.until("Ctrl-C stops the server")
    yield running
    running.close()
    assert using(scratch) == []


def test_stay_ends_with_69_and_one_line_when_its_server_was_killed(stay, scratch):
    server = children(stay.process.popen.pid)[0]
    os.kill(server, signal.SIGKILL)
    assert stay.process.popen.wait(HANGS) == 69
    error = stay.process.popen.stderr.read()
    *before, last = error.splitlines(keepends=True)
    assert is_one_clean_line(last)
    assert last.startswith("crypto-trigger: nats://127.0.0.1:")
    assert "the demo's nats-server has ended; start it again with: crypto-trigger demo --stay" in last
    # The connection may be lost before the server is known to have ended.
    assert all("warning: listening is interrupted" in line for line in before)
    assert len(before) <= 1
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("ready", [False, True], ids=["while its server starts", "while it listens"])
def test_a_demo_that_is_killed_leaves_no_server_and_no_file(ready, scratch):
    running, left = Development(free_port()), []
    process = running.process.popen
    try:
        if ready:
            running.until("Ctrl-C stops the server")
        until(lambda: len(using(scratch)) == 2)
        left = children(process.pid)
        process.kill()
        process.wait(HANGS)
        until(lambda: using(scratch) == [] and list(scratch.iterdir()) == [])
    finally:
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        running.close()


def deaf(talk):
    """Take the subscription, then say what ends nats-py's read loop while the connection lives."""
    talk.welcome()
    talk.hear(b"SUB ")
    talk.hear(b"PING\r\n")
    talk.say(b"PONG\r\nINFO {bad\r\n")
    talk.listen()


def test_no_one_listens_over_a_connection_that_hears_nothing():
    async def begin(url):
        flags = {"servers": url, "timeout": "300ms"}
        async with Subscriber(load(flags, os.devnull, {})).open(Attempt(1, lambda: 5.0)):
            pytest.fail("it says that it listens")

    with Scripted(deaf) as server, pytest.raises(TriggerError):
        asyncio.run(begin(server.url))
