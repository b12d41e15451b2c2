"""The commands of docs/deliveries.md that replace one server by two: run as they stand, on a port of the test's own."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.ports import free_port
from support.processes import HANGS
from support.programs import program
from support.shell import ROOT

from crypto_trigger.server import program as nats_server

PAGE = (ROOT / "docs" / "deliveries.md").read_text()
STREAMING = "nats-streaming-server -cid crypto-stats"


def block(title):
    """The first block of shell commands after a line that begins with `title`."""
    return re.search(r"```sh\n(.*?)```", PAGE[PAGE.index(f"\n{title}") :], re.DOTALL)[1]


def on(port, commands):
    """The commands with another port than NATS's own."""
    moved = commands.replace("localhost:4222", f"localhost:{port}").replace(
        "nats-server -js", f"nats-server -p {port} -js"
    )
    assert moved != commands
    return moved


@pytest.fixture
def shell(tmp_path):
    """Run a script with bash; what it leaves running in the background ends with the test."""
    path = os.pathsep.join(str(Path(place).parent) for place in (program("nats-streaming-server"), nats_server()))
    environ = {**os.environ, "PATH": os.pathsep.join([path, os.environ["PATH"]])}
    started = []

    def run(script):
        with (tmp_path / "servers").open("wb") as log:
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
        process.wait(3 * HANGS)

    yield run
    for group in started:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def test_step_2_puts_nats_streaming_behind_a_server_with_jetstream(shell, tmp_path):
    port = free_port()
    # The first of the three is the server; the others are Node clients, which have tests of their own.
    start = block("At the start").splitlines()[0]
    assert start.startswith(STREAMING)
    settings = f"NATS_URL=nats://localhost:{port} CRYPTO_TRIGGER_SUBJECT=crypto-update CRYPTO_TRIGGER_GIVE_UP_AFTER=15s"
    publish = f"{settings} {sys.executable} -m crypto_trigger publish >>said 2>&1 --delivery"
    shell(
        f"{start.replace(STREAMING, f'{STREAMING} -p {port}')}\n"
        f"{publish} streaming\n"
        f"{on(port, block('### 2.'))}\n"
        f"{publish} streaming\n"
        f"jobs -r >running\n"
    )
    said = (tmp_path / "said").read_text()
    running = (tmp_path / "running").read_text()
    servers = (tmp_path / "servers").read_text()
    published = r"published crypto-update for \S+ in NATS Streaming cluster crypto-stats\n"
    assert re.fullmatch(published * 2, said), servers
    assert f"nats-server -p {port} -js" in running, servers
    assert f"{STREAMING} -st FILE -dir streaming-data -ns nats://localhost:{port}" in running, servers
