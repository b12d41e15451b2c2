"""nats-servers of other releases than the wheel's, wherever the machine has them: used if found, else skipped by name.

They are looked for on PATH as `nats-server-2.9`, and in the folder that CRYPTO_TRIGGER_TEST_SERVERS names, as
`2.9.25/nats-server`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from crypto_trigger.server import Server

# Read now: every test begins without such variables.
_FOLDER = os.environ.get("CRYPTO_TRIGGER_TEST_SERVERS", "")


def find(release):
    """The path of a nats-server of this release (`2.9`); skips the test where there is none."""
    found = shutil.which(f"nats-server-{release}")
    if not found and _FOLDER:
        folders = sorted(Path(_FOLDER).glob(f"{release}.*/nats-server"))
        found = str(folders[-1]) if folders else None
    if not found:
        pytest.skip(f"nats-server-{release} is not installed")
    return found


def version(path):
    """The version a nats-server says it has: `2.9.25`."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    return said.strip().rpartition("v")[2]


@contextmanager
def serving(path, *, jetstream=True, arguments=()):
    """The server at this path, running while the block does."""
    with (
        patch("crypto_trigger.server.program", lambda: path),
        Server(jetstream=jetstream, arguments=arguments) as server,
    ):
        yield server
