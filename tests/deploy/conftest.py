"""The program as an operator gets it: a built wheel in a fresh environment."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
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
def installed(tmp_path_factory):
    """The wheel in a fresh virtual environment, first without and then with the extra for the demo."""
    base = tmp_path_factory.mktemp("installed")
    must(sys.executable, "-m", "build", "--wheel", "--outdir", base / "dist", ROOT)
    (wheel,) = (base / "dist").glob("*.whl")
    folder = base / "venv"
    must(sys.executable, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    must(*pip, wheel)
    without = do(folder / "bin" / "crypto-trigger", "demo", cwd="/", env={"PATH": str(folder / "bin")})
    must(*pip, f"{wheel}[demo]")
    return Installed(wheel, folder, without)


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
