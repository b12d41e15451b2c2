"""The program as an operator gets it: a built wheel in a fresh environment."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from support.locks import alone
from support.shell import ROOT, Ended, do

# Building and installing ask a package index.
_PATIENCE = 300


class Installed(NamedTuple):
    """A virtual environment with the wheel in it, and what `demo` said there before its extra was installed."""

    wheel: Path
    folder: Path
    demo_without_extra: Ended

    @property
    def program(self):
        return str(self.folder / "bin" / "crypto-trigger")


def must(*command):
    done = do(*command, timeout=_PATIENCE)
    assert done.status == 0, done
    return done


@pytest.fixture(scope="session")
def installed(shared):
    """The wheel in a fresh virtual environment, made once for all test processes."""
    base = shared / "installed"
    without = base / "demo-without-extra.json"
    with alone(shared / "installed.lock"):
        if not without.exists():
            shutil.rmtree(base, ignore_errors=True)  # left by one that failed
            without.write_text(json.dumps(install(base)))
    (wheel,) = (base / "dist").glob("*.whl")
    return Installed(wheel, base / "venv", Ended(*json.loads(without.read_text())))


def install(base):
    """Install the wheel without and then with the extra for the demo; returns what `demo` said between."""
    must(sys.executable, "-m", "build", "--wheel", "--outdir", base / "dist", ROOT)
    (wheel,) = (base / "dist").glob("*.whl")
    folder = base / "venv"
    must(sys.executable, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    must(*pip, wheel)
    without = do(folder / "bin" / "crypto-trigger", "demo", cwd="/", env={"PATH": str(folder / "bin")})
    must(*pip, f"{wheel}[demo]")
    return without


@pytest.fixture
def cron(tmp_path):
    """Run a shell's command line as cron does: an almost empty environment, the C locale, cwd /, nothing on stdin."""

    def run(line, **environ):
        bare = {
            "HOME": str(tmp_path),
            "LOGNAME": "root",
            "PATH": "/usr/bin:/bin",
            "SHELL": "/bin/sh",
            "LC_ALL": "C",
            **environ,
        }
        return do("/bin/sh", "-c", line, env=bare, cwd="/", stdin=subprocess.DEVNULL)

    return run


@pytest.fixture
def settings(place):
    """The test's own place, as environment variables."""
    return {"NATS_URL": place.url, "CRYPTO_TRIGGER_STREAM": place.stream, "CRYPTO_TRIGGER_SUBJECT": place.subject}
