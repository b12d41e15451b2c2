"""docs/rehearsal.md: what it shows of a terminal is what the program says, and its script passes."""

import os
import re
import sys

import pytest
from support.clocks import roomy
from support.shell import ROOT, console, do
from support.streams import stored

from crypto_trigger.delivery.rehearsal import MARK

PAGE = (ROOT / "docs" / "rehearsal.md").read_text()
(SHOWN,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
(SCRIPT,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def options(place, tmp_path):  # noqa: ARG001 - the environment it sets
    """Options for commands: the program on PATH; the server and the subject of the test's own in the environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "crypto-trigger"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m crypto_trigger "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    # For longer slots than the default, so that none begins in between.
    return {"env": {**os.environ, **roomy().settings, "PATH": path}, "cwd": tmp_path}


def masked(text, place):
    """A text without what is different each time, and with the names of the page."""
    text = text.replace(place.subject, "crypto.update").replace(place.stream, "crypto-stats")
    text = text.replace(place.url, "nats://localhost:4222")
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)


def test_what_the_page_shows_of_a_terminal_is_what_the_program_says(options, place):
    assert do("crypto-trigger", "setup", "-q", **options).status == 0
    said = console(SHOWN, **options)
    assert len(stored(place.url, place.stream)) == 1
    assert masked(said, place) == masked(SHOWN, place)


def test_the_script_fails_before_the_stream_is_there_and_passes_then_and_stores_nothing(options, place):
    before = do("bash", "-c", f"set -e\n{SCRIPT}", **options)
    assert stored(place.url, place.stream) is None
    assert before.status == 78
    assert do("crypto-trigger", "setup", "-q", **options).status == 0
    after = do("bash", "-c", f"set -e\n{SCRIPT}", **options)
    assert stored(place.url, place.stream) == []
    assert (after.status, after.err) == (0, "")


def test_the_prefix_of_the_ids_is_that_of_the_program():
    assert f"begin with `{MARK}`" in " ".join(PAGE.split())
