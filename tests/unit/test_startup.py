"""What a start loads: `--help` and the like pay for nothing they do not use."""

import os
import subprocess
import sys

import pytest

HEAVY = {"nats", "backoff", "rich", "asyncio", "pydantic", "dotenv", "ssl", "logging"}


def modules_of(*argv):
    """The top-level modules that a run of the program imports, and its status."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "crypto_trigger", *argv],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.defpath},
        check=False,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return done.returncode, {line.rpartition("|")[2].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["publish", "--help"]], ids=" ".join)
def test_help_and_version_load_no_library_but_typer(argv):
    status, modules = modules_of(*argv)
    assert status == 0
    assert {"typer", "crypto_trigger"} <= modules
    assert not modules & HEAVY
