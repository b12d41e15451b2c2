"""docs/listen.md: what it shows of a terminal is what the program says, its scripts work, its tables are complete."""

import os
import re
import sys
from pathlib import Path

import pytest
from support.shell import ROOT, console, do
from support.streams import stored

from crypto_trigger.commands.server import Server

PAGE = (ROOT / "docs" / "listen.md").read_text()
SHOWN = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
SCRIPTS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
# Both halves of a smoke test must have ended well.
BOTH = "set -e\n{}"


@pytest.fixture(scope="module")
def server():
    """A server that the page's stream is on, and nothing else."""
    with Server() as running:
        yield running


@pytest.fixture
def options(server, tmp_path):
    """Options for commands: the program on PATH, the server, its stream set up, in the environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "crypto-trigger"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m crypto_trigger "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    environ = {**os.environ, "PATH": path, "NATS_URL": server.url}

    found = {"env": environ, "cwd": tmp_path}
    assert do("crypto-trigger", "setup", "-q", **found).status == 0
    return found


def masked(text):
    """A text without what is different each time."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", text)
    text = re.sub(r"(?<=stored )[\dhms.]+|(?<=lateness_seconds\": )\d+\.\d+", "N", text)
    return re.sub(r"//[\w.-]+/worker-server", "SOURCE", text)


def test_what_the_page_shows_of_a_terminal_is_what_the_program_says(options):
    assert len(SHOWN) == 3
    for block in (shown.replace("2s", "8s") for shown in SHOWN):
        assert masked(console(block, **options)) == masked(block)


def test_the_smoke_test_sees_the_trigger_though_publish_starts_at_once(options, server):
    smoke, _ = SCRIPTS
    assert smoke.startswith("crypto-trigger listen --count 1 --for 30s &\n")
    # As the page says: a second trigger of the slot is stored only by force.
    before = len(stored(server.url, "crypto-stats"))
    ended = do("bash", "-c", BOTH.format(smoke.replace("publish", "publish --force")), **options)
    assert ended.status == 0, ended
    (last,) = stored(server.url, "crypto-stats")[before:]
    assert f"crypto.update for {last.headers['ce-time']}: sequence {last.seq}, " in ended.out
    assert len(ended.out.splitlines()) == 2


def test_the_smoke_test_fails_without_a_trigger(options):
    script = SCRIPTS[0].replace("30s", "1s").replace("crypto-trigger publish\n", "")
    ended = do("bash", "-c", BOTH.format(script), **options)
    assert (ended.status, ended.out) == (69, "")


def test_the_smoke_test_of_core_waits_for_the_listener(options):
    ended = do(
        "bash",
        "-c",
        BOTH.format(SCRIPTS[1].replace("--delivery core", "--delivery core --subject plain.update")),
        **options,
    )
    assert ended.status == 0, ended
    assert "plain.update for " in ended.out
    assert ": received " in ended.out


def test_the_page_has_the_keys_of_json():
    from crypto_trigger.commands import listen as arrival_formats

    source = Path(arrival_formats.__file__).read_text()
    keys = re.findall(r'^        "(\w+)":', source, re.MULTILINE)
    assert keys == re.findall(r"^\| `(\w+)` \| (?:text|time|number) ", PAGE, re.MULTILINE)
