"""What the pages and the example of an env file say, held against the program."""

import os
import re

import pytest
from support.clocks import roomy
from support.pages import blocks, masked
from support.programs import program
from support.shell import ROOT, console, do

from crypto_trigger.commands.server import Server
from crypto_trigger.settings.load import SETTINGS, load

DEFAULTS = load({}, "/dev/null", {})
VARIABLES = {setting.variable for setting in SETTINGS}


def test_the_env_example_is_read_without_a_complaint_even_with_every_line_in_force(run, tmp_path):
    text = (ROOT / ".env.example").read_text()
    named = set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    assert named <= VARIABLES
    result = run("config", "--env-file", ROOT / ".env.example")
    assert (result.status, result.err) == (0, "")
    # Files of credentials are the operator's own.
    every = re.sub(r"^#(?=[A-Z_]+=)(?!\w+(_FILE|_CREDS)=)", "", text, flags=re.MULTILINE)
    (tmp_path / "every.env").write_text(every)
    result = run("config", "--env-file", tmp_path / "every.env")
    assert (result.status, result.err) == (0, "")


def test_the_tests_and_benchmarks_that_the_pages_name_exist():
    """A name without a folder is in the folder of the name before it."""
    missing, folder, named = [], None, 0
    for page in (ROOT / "docs").glob("*.md"):
        for path in re.findall(r"`((?:[\w/]+/)?(?:test_)?\w+\.py)`", page.read_text()):
            folder = (ROOT / path).parent if "/" in path else folder
            named += 1
            if not (folder / path.rpartition("/")[2]).exists():
                missing.append(f"{page.name}: {path}")
    assert named > 10
    assert missing == []


# What the pages show of a terminal. Those of docs/setup.md and docs/deliveries.md that need other servers have their
# tests beside those servers.


# How many blocks of each page, from its first.
PAGES = {
    "docs/command-line.md": 1,
    "docs/guarantees.md": 2,
    "docs/report.md": 1,
    "docs/faults.md": 1,
    "docs/deliveries.md": 1,
    "docs/pings-and-logs.md": 3,
}
SHOWN = {
    f"{page}, {number}": block
    for page, most in PAGES.items()
    for number, block in enumerate(re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)[:most])
}


def test_every_block_that_is_to_be_run_is_there():
    assert len(SHOWN) == sum(PAGES.values())


@pytest.mark.parametrize("block", SHOWN.values(), ids=SHOWN)
def test_what_a_page_shows_of_a_terminal_is_what_the_program_says(block, installed, tmp_path):
    path = os.pathsep.join([str(installed.folder / "bin"), os.environ["PATH"]])
    if "faketime" in block:
        program("faketime")
    with Server() as server:
        environ = {**os.environ, **roomy().settings, "PATH": path, "NATS_URL": server.url}
        assert do("crypto-trigger", "setup", env=environ, cwd=tmp_path).status == 0
        said = console(block, env=environ, cwd=tmp_path)
    assert masked(said) == masked(block)


def test_the_line_that_explains_the_page_of_messages_is_one(run):
    (shown,) = (block.text for block in blocks("docs/messages.md"))
    said = run("publish", "-v", "--server", "nats://127.0.0.1:1", "--give-up-after", "300ms").err.splitlines(
        keepends=True
    )
    assert masked(said[-1]) == masked(shown.replace("nats://nats-1:4222", "nats://127.0.0.1:1"))
