"""The program as an operator gets it: built, and installed by the README's commands."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.utils import canonicalize_name
from support import images
from support.locks import alone
from support.shell import ROOT, Ended, do

# Building and installing ask a package index.
_PATIENCE = 300


class Installed(NamedTuple):
    """A virtual environment, and what it held and what `demo` said there before the wheel's extra was installed."""

    wheel: Path
    sdist: Path
    folder: Path
    versions: dict[str, str]
    demo_without_extra: Ended

    @property
    def program(self):
        return str(self.folder / "bin" / "crypto-trigger")

    @property
    def site_packages(self):
        return _site_packages(self.folder)


def must(*command):
    """Run a command in the root of the repository, which must succeed; returns its stdout."""
    done = do(*command, cwd=ROOT, timeout=_PATIENCE)
    assert done.status == 0, done
    return done.out


@pytest.fixture(scope="session")
def installed(shared):
    """The program in a fresh virtual environment, made once for all test processes."""
    base = shared / "installed"
    noted = base / "noted.json"
    with alone(shared / "installed.lock"):
        if not noted.exists():
            shutil.rmtree(base, ignore_errors=True)  # left by one that failed
            noted.write_text(json.dumps(_install(base)))
    versions, demo = json.loads(noted.read_text())
    wheel, sdist = _built(base)
    return Installed(wheel, sdist, base / "venv", versions, Ended(*demo))


@pytest.fixture(scope="session")
def image(shared):
    """The container image, built once for all test processes."""
    images.needed()
    base = shared / "image"
    noted = base / "noted"
    with alone(shared / "image.lock"):
        if not noted.exists():
            shutil.rmtree(base, ignore_errors=True)  # left by one that failed
            base.mkdir()
            noted.write_text(images.build(base).name)
    return images.Image(base, noted.read_text())


def _install(base):
    """Build, run the README's commands, then add the extra of the wheel; returns what was there between."""
    must(sys.executable, "-m", "build", "--no-isolation", "--outdir", base / "dist", ROOT)
    folder = base / "venv"
    for command in _commands(folder):
        must(*command)
    found = distributions(path=_site_packages(folder))
    versions = {canonicalize_name(distribution.name): distribution.version for distribution in found}
    demo = do(folder / "bin" / "crypto-trigger", "demo", cwd="/", env={"PATH": str(folder / "bin")})
    wheel, _ = _built(base)
    must(folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check", f"{wheel}[demo]")
    return versions, demo


def _commands(folder):
    """The README's commands for an installation, in another folder."""
    section = (ROOT / "README.md").read_text().partition("## Use it against your own NATS\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if re.search(r" -m venv |/pip install ", line)]
    assert len(lines) == 3
    assert " --require-hashes -r requirements.txt" in lines[2]
    for line in lines:
        words = shlex.split(line.replace("/opt/crypto-trigger", str(folder)), comments=True)
        yield [sys.executable if word == "python3" else word for word in words]


def _built(base):
    """The wheel and the source distribution."""
    (wheel,), (sdist,) = ((base / "dist").glob(pattern) for pattern in ("*.whl", "*.tar.gz"))
    return wheel, sdist


def _site_packages(folder):
    return [str(path) for path in folder.glob("lib/python*/site-packages")]


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
