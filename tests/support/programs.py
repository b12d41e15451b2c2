"""Other people's programs: found, or the test is skipped by their name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

# Set by CI: what PyPI, npm or Debian's packages provide must be there.
ALL = os.environ.get("CRYPTO_TRIGGER_TEST_ALL") == "1"
GO = {"nats", "nats-streaming-server", "supercronic", "promtool"}


def program(name):
    """The path of a program on PATH (Go programs: or in Go's bin folder); skips the test where it is missing."""
    found = shutil.which(name)
    if not found and name in GO:
        found = shutil.which(name, path=str(Path(os.environ.get("GOPATH") or Path.home() / "go", "bin")))
    if not found:
        if ALL and name not in GO:
            pytest.fail(f"{name} is not installed, and CRYPTO_TRIGGER_TEST_ALL=1 asks for all")
        pytest.skip(f"{name} is not installed")
    return found
