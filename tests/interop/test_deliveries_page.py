"""docs/deliveries.md: the move from the Node worker to JetStream, each block run as it stands, on a port of its own."""

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.clocks import roomy
from support.pages import blocks, masked, text
from support.ports import free_port
from support.processes import HANGS
from support.programs import program
from support.shell import ROOT, do

from crypto_trigger.commands.server import program as nats_server

PAGE = "docs/deliveries.md"
# The blocks of the story, in their order; the page has one before it.
_, START, EXPORT, BESIDE, SWAPPED, RECEIVED, BEHIND, GOES_ON, SETUP, CONSUMER, SWITCH, SWITCHED = blocks(PAGE)


def until(words, file):
    """Wait in bash until a file holds these words."""
    return f"until grep -qs {shlex.quote(words)} {file}; do sleep 0.05; done"


def typed(block):
    """The commands of a console block as a terminal shows them, in the file `said`."""
    shown = [f"printf '%s\\n' {shlex.quote(f'$ {command}')}\n{command}" for command in block.commands]
    return "{\n" + "\n".join(shown) + "\n} >>said 2>&1"


@pytest.fixture
def terminal(tmp_path):
    """Run a script with bash in a folder like a clone's; what it leaves in the background ends with the test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    ours = folder / "crypto-trigger"
    ours.write_text(f'#!/bin/sh\nexec {sys.executable} -m crypto_trigger "$@"\n')
    ours.chmod(0o755)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    found = (program("nats-streaming-server"), nats_server(), program("node"))
    path = [str(folder), *(str(Path(each).parent) for each in found), os.environ["PATH"]]
    environ = {**os.environ, **roomy().settings, "PATH": os.pathsep.join(path)}
    started = []

    def run(script):
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", script],
                cwd=tmp_path,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process.pid)
        process.wait(4 * HANGS)

    yield run
    for group in started:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


@pytest.mark.usefixtures("node_packages")
def test_the_three_steps_from_the_node_worker_to_jetstream_are_as_the_page_shows_them(terminal, tmp_path):
    port = free_port()
    server, subscriber, worker = START.commands
    story = [
        server,
        until("Streaming Server is ready", "log"),
        subscriber.replace(" &", " >received &"),
        until('"ready":true', "received"),
        worker.replace(" &", " >worked &"),
        until("published", "worked"),
        EXPORT.text,
        typed(BESIDE),
        "kill %3; wait %3",  # "Stop the worker"
        typed(SWAPPED),
        until('"sequence":2', "received"),
        BEHIND.text,
        typed(GOES_ON),
        typed(SETUP),
        typed(CONSUMER),
        SWITCH.text,
        typed(SWITCHED),
        "jobs -r >running",
    ]
    script = "\n".join(story).replace("localhost:4222", f"localhost:{port}")
    script = script.replace("nats-server -js", f"nats-server -p {port} -js")
    script = script.replace(server, server.replace(" &", f" -p {port} &"))
    terminal(script)
    log = (tmp_path / "log").read_text()
    said = (tmp_path / "said").read_text()
    shown = "".join(each.text for each in (BESIDE, SWAPPED, GOES_ON, SETUP, CONSUMER, SWITCHED))
    assert masked(said) == masked(shown), log
    assert (tmp_path / "received").read_text() == RECEIVED.text
    running = (tmp_path / "running").read_text()
    assert f"nats-server -p {port} -js" in running, log
    assert f"-ns nats://localhost:{port}" in running, log


def test_the_story_is_told_of_the_servers_that_were_used():
    (told,) = re.findall(r"nats-streaming-server (\d+\.\d+\.\d+)", text(PAGE))
    assert told in do(program("nats-streaming-server"), "--version").out
