"""What a start loads: nothing that it does not use."""

from pathlib import Path

import pytest
from support.imports import modules_of
from support.streams import stored

HEAVY = {"nats", "backoff", "rich", "asyncio", "pydantic", "dotenv", "ssl", "logging"}


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["publish", "--help"], ["check", "--help"]], ids=" ".join)
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


def test_a_publish_that_succeeds_at_once_loads_no_library_for_failures_or_terminals(run, place):
    run("setup")
    status, modules = modules_of("publish")
    assert len(stored(place.url, place.stream)) == 1
    assert status == 0
    assert "nats" in modules
    assert not modules & {"pydantic", "rich", "backoff", "dotenv"}


def test_a_check_loads_no_library_for_failures_or_terminals(run, place):
    run("setup")
    status, modules = modules_of("check", "--since", "2h", "--quiet")
    assert stored(place.url, place.stream) == []
    assert status == 0
    assert "nats" in modules
    assert not modules & {"pydantic", "rich", "backoff", "dotenv"}


def test_backoff_is_loaded_after_a_failure_and_rich_only_on_a_terminal():
    status, modules = modules_of("publish", "--server", "nats://127.0.0.1:1", "--give-up-after", "1s")
    assert status == 69
    assert "backoff" in modules
    assert not modules & {"pydantic", "rich", "dotenv"}
