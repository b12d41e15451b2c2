"""What an older Python, or one without our libraries, says where the program is run from its source."""

import ast
import os
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from support.shell import do

import crypto_trigger

PACKAGE = Path(crypto_trigger.__file__)


@pytest.fixture
def said(monkeypatch):
    """What is written to stderr, byte for byte."""
    lines = []
    monkeypatch.setattr(os, "write", lambda fd, text: lines.append((fd, text.decode())))
    return lines


@pytest.mark.parametrize(("command", "status"), [("publish", 78), ("check", 3), ("", 78)])
def test_an_older_python_is_told_that_it_is_too_old(command, status, said, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 13))
    monkeypatch.setattr(sys, "version", "3.10.13 (main) [GCC]")
    monkeypatch.setattr(sys, "argv", ["-m", command])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(PACKAGE)
    assert caught.value.code == status
    line = f"crypto-trigger: Python 3.10.13 ({sys.executable}) is too old; use Python 3.11 or later\n"
    assert said == [(2, line)]


def test_the_check_is_in_words_that_every_python_reads():
    tree = ast.parse(PACKAGE.read_text(), feature_version=(3, 3))
    kinds = {type(node) for node in ast.walk(tree)}
    # Python 2 has none of these.
    assert not kinds & {ast.JoinedStr, ast.AnnAssign, ast.arg, ast.NamedExpr, ast.Nonlocal, ast.Starred}
    # Nothing of ours is loaded before it.
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported == {"sys", "os"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


@pytest.mark.parametrize(("command", "status"), [("publish", 78), ("check", 3)])
def test_a_python_without_our_libraries_is_told_how_to_install_the_program(command, status):
    # Without `site` there are none.
    ended = do(sys.executable, "-S", "-m", "crypto_trigger", command, cwd=PACKAGE.parents[1])
    assert (ended.status, ended.out) == (status, "")
    assert ended.err == (
        f"crypto-trigger: the library typer is not installed for {sys.executable}; install this program first, for "
        f"example with: {shlex.quote(sys.executable)} -m venv .venv && .venv/bin/pip install .\n"
    )


def test_a_part_of_our_own_that_is_missing_is_a_bug(tmp_path):
    part = tmp_path / PACKAGE.parent.name
    part.mkdir()
    for name in ("__init__.py", "__main__.py", "signals.py"):
        shutil.copy(PACKAGE.with_name(name), part)
    ended = do(sys.executable, "-S", "-m", part.name, cwd=tmp_path)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.endswith("ModuleNotFoundError: No module named 'crypto_trigger.cli'\n")
