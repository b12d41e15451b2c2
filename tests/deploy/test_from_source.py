"""`python -m crypto_trigger` in a clone: what is said where Python is too old, or our libraries are not installed."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from support.programs import ALL
from support.shell import ROOT, do

# Each test has a home of its own.
_HOME = Path.home()
OLD = ("2.7", "3.6", "3.8", "3.10")
# Making an environment, building and installing.
_PATIENCE = 300


def old_python(version):
    """An interpreter of that version: on PATH, or one of pyenv's; skips the test where there is none."""
    found = [shutil.which(f"python{version}"), *sorted(_HOME.glob(f".pyenv/versions/{version}.*/bin/python"))]
    for path in filter(None, found):
        # A name on PATH may be one of pyenv's that is not chosen.
        if do(path, "-c", "").status == 0:
            return path
    pytest.skip(f"python{version} is not installed")


@pytest.mark.parametrize("version", OLD)
@pytest.mark.parametrize(("command", "status"), [("publish", 78), ("check", 3)])
def test_an_old_python_is_told_in_one_line_that_it_is_too_old(command, status, version):
    # It would write its bytecode beside the source, some in the same folder.
    ended = do(old_python(version), "-B", "-m", "crypto_trigger", command, cwd=ROOT)
    assert (ended.status, ended.out) == (status, "")
    said = rf"crypto-trigger: Python {re.escape(version)}\.\d+ \(.*\) is too old; use Python 3\.11 or later\n"
    assert re.fullmatch(said, ended.err)


@pytest.mark.skipif(not ALL, reason="asks a package index; CRYPTO_TRIGGER_TEST_ALL=1 runs it")
@pytest.mark.parametrize("version", OLD[2:])
def test_the_pip_of_an_old_python_says_that_it_is_too_old(version, tmp_path, installed):
    must = do(old_python(version), "-m", "venv", tmp_path, timeout=_PATIENCE)
    assert must.status == 0, must
    ended = do(tmp_path / "bin" / "pip", "install", "-q", installed.wheel, timeout=_PATIENCE)
    assert ended.status == 1
    said = rf"Package 'crypto-trigger' requires a different Python: {re.escape(version)}\.\d+ not in '>=3\.11'"
    assert re.search(said, ended.err), ended.err


@pytest.mark.parametrize(
    ("arguments", "status", "stream"),
    [
        (("publish",), 78, "err"),
        (("publish", "--server=nats://localhost"), 78, "err"),
        (("demo",), 78, "err"),
        (("check",), 3, "out"),
        (("check", "--since=2h"), 3, "out"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_python_without_our_libraries_is_told_how_to_install_the_program(arguments, status, stream):
    # Without `site` there are none.
    ended = do(sys.executable, "-S", "-m", "crypto_trigger", *arguments, cwd=ROOT)
    assert ended.status == status
    said = getattr(ended, stream)
    assert ended.out + ended.err == said
    assert said.count("\n") == 1
    assert re.sub(r"; (crypto\.update for .*|nothing was published)\n$|\n$", "", said) == (
        f"{'crypto-trigger:' if stream == 'err' else 'TRIGGER UNKNOWN -'} the library typer is not installed for "
        f"{sys.executable}; install this program first, for example with: {shlex.quote(sys.executable)} -m venv .venv "
        "&& .venv/bin/pip install ."
    )


def test_a_part_of_our_own_that_is_missing_is_a_bug(tmp_path):
    shutil.copytree(
        ROOT / "crypto_trigger", tmp_path / "crypto_trigger", ignore=shutil.ignore_patterns("program.py", "*.pyc")
    )
    ended = do(sys.executable, "-S", "-m", "crypto_trigger", "demo", cwd=tmp_path)
    assert (ended.status, ended.out) == (70, "")
    assert "No module named 'crypto_trigger.commands.program'" in ended.err


@pytest.mark.parametrize(
    ("library", "wanted", "content"),
    [
        ("nats", "nats-py", ""),
        ("nats", "nats-py", "from os import no_such_name\n"),
        ("nats", "nats-py", "raise ImportError('not for this Python')\n"),
        ("typer", "typer", ""),
        ("dotenv", "python-dotenv", ""),
        ("backoff", "backoff", ""),
    ],
)
@pytest.mark.parametrize(("command", "status", "stream"), [("publish", 78, "err"), ("check", 3, "out")])
@pytest.mark.parametrize("kind", ["package", "module"])
def test_another_library_of_the_same_name_is_named_with_its_path(
    kind, command, status, stream, library, wanted, content, tmp_path
):
    place = tmp_path / library if kind == "package" else tmp_path / f"{library}.py"
    (tmp_path / ".env").touch()
    if kind == "package":
        place.mkdir()
    (place / "__init__.py" if kind == "package" else place).write_text(content)
    nowhere = ("--server", "nats://127.0.0.1:1", "--give-up-after", "1s", "--env-file", str(tmp_path / ".env"))
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = do(sys.executable, "-m", "crypto_trigger", command, *nowhere, cwd=ROOT, env=environ)
    assert ended.status == status, ended
    said = getattr(ended, stream)
    assert ended.out + ended.err == said
    assert f"{library} is loaded from {place}, which is not the library {wanted}; take that folder out of " in said
    assert said.count("\n") == 1
