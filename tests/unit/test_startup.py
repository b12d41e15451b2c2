"""What a start loads: `--help` and the like pay for nothing they do not use."""

from pathlib import Path

import pytest
from support.imports import modules_of

HEAVY = {"nats", "backoff", "rich", "asyncio", "pydantic", "dotenv", "ssl", "logging"}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["publish", "--help"]], ids=" ".join)
def test_help_and_version_load_no_library_but_typer(argv):
    status, modules = modules_of(*argv)
    assert status == 0
    assert {"typer", "crypto_trigger"} <= modules
    assert not modules & HEAVY


def test_a_dry_run_loads_nothing_that_connects_and_dotenv_only_for_the_env_file():
    Path(".env").touch()
    status, modules = modules_of("publish", "--dry-run")
    assert status == 0
    assert modules & HEAVY <= {"dotenv", "logging"}
    assert "dotenv" in modules
