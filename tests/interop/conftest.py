"""The channel and settings of a publish to NATS Streaming, and the clients for Node."""

import shutil
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
from support.locks import alone
from support.programs import ALL, program
from support.streaming_double import StreamingDouble

HERE = Path(__file__).parent
QUICK = {
    "CRYPTO_TRIGGER_DELIVERY": "streaming",
    "CRYPTO_TRIGGER_BACKOFF_BASE": "20ms",
    "CRYPTO_TRIGGER_BACKOFF_MAX": "200ms",
    "CRYPTO_TRIGGER_GIVE_UP_AFTER": "20s",
}
SHORT = {"CRYPTO_TRIGGER_TIMEOUT": "300ms", "CRYPTO_TRIGGER_GIVE_UP_AFTER": "1s"}


@pytest.fixture
def channel(monkeypatch):
    """A channel of the test's own, and the settings of the old worker but for the address."""
    name = f"t{uuid4().hex[:12]}.update"
    monkeypatch.setenv("CRYPTO_TRIGGER_SUBJECT", name)
    for variable, value in QUICK.items():
        monkeypatch.setenv(variable, value)
    return name


@pytest.fixture
def short(channel, monkeypatch):  # noqa: ARG001 - whose settings it changes
    """Give up soon: for what stays as it is until the deadline."""
    for variable, value in SHORT.items():
        monkeypatch.setenv(variable, value)


@pytest.fixture
def double(channel, monkeypatch):  # noqa: ARG001 - its settings
    with StreamingDouble() as stan:
        monkeypatch.setenv("NATS_URL", stan.url)
        yield stan


@pytest.fixture(scope="session")
def node_packages():
    """The clients that package-lock.json names, installed once where they are missing."""
    program("node")
    npm = shutil.which("npm")
    with alone(HERE / "package-lock.json"):
        if (HERE / "node_modules").is_dir():
            return
        command = [npm, "ci", "--silent", "--prefix", HERE]
        installed = npm and subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300, check=False)
    if not installed or installed.returncode:
        reason = installed.stderr.strip().rpartition("\n")[2] if installed else "npm is not installed"
        (pytest.fail if ALL else pytest.skip)(f"tests/interop/node_modules is missing: {reason}")
