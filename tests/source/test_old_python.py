"""What an older Python says where the program is run from its source."""

import ast
import os
import runpy
import sys
from pathlib import Path

import pytest

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
