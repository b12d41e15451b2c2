"""Other people's programs: found, or the test is skipped by their name."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

# Set by CI: what PyPI, npm or Debian's packages provide must be there.
ALL = os.environ.get("CRYPTO_TRIGGER_TEST_ALL") == "1"
GO = {"nats", "nats-streaming-server", "supercronic", "promtool"}
# Each test has a home of its own.
_HOME = Path.home()
_MISSING = " is not installed"


def program(name):
    """The path of a program on PATH (Go programs: or in Go's bin folder); skips the test where it is missing."""
    found = shutil.which(name) or (name in GO and shutil.which(name, path=_go_folders()))
    if not found:
        if ALL and name not in GO:
            pytest.fail(f"{name}{_MISSING}, and CRYPTO_TRIGGER_TEST_ALL=1 asks for all")
        pytest.skip(f"{name}{_MISSING}")
    return found


def perl(module):
    """The path of perl, where it has this module; skips the test where it is missing."""
    found = program("perl")
    if subprocess.run([found, f"-M{module}", "-e", "1"], capture_output=True, check=False).returncode:
        if ALL:
            pytest.fail(f"{module}{_MISSING}, and CRYPTO_TRIGGER_TEST_ALL=1 asks for all")
        pytest.skip(f"{module}{_MISSING}")
    return found


def missing(skipped):
    """How many tests were skipped for each program that is missing, as one line; `skipped` holds their reports."""
    reasons = [str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped]
    counts = Counter(reason.removesuffix(_MISSING) for reason in reasons if reason.endswith(_MISSING))
    return ", ".join(f"{name} ({count} tests)" for name, count in sorted(counts.items()))


@cache
def _go_folders():
    """Where `go install` puts programs, as a PATH."""
    found = [str(_HOME / "go" / "bin")]
    if go := shutil.which("go"):
        asked = subprocess.run(
            [go, "env", "GOBIN", "GOPATH"],
            env={**os.environ, "HOME": str(_HOME)},
            capture_output=True,
            text=True,
            check=True,
        )
        own, *paths = asked.stdout.splitlines()
        found += [own, *(str(Path(path, "bin")) for path in paths)]
    return os.pathsep.join(filter(None, found))
